/* Devices: found free, and put back as they were, like settings and modules. */
struct device {
	char driver[64];
	char numvfs[16];
};

static struct device before[DEVICES + 1];
static void skip(const char *why)
{
	printf("ok 1 %s # SKIP %s\n", NAME, why);
	exit(4);
}

static void free_device(const char *function)
{
	const char *driver = read_link(attribute(function, "driver"));

	if (driver && strcmp(driver, "pcieport"))
		write_file(fmt("/sys/bus/pci/drivers/%s/unbind", driver), function);
}

static void take_device(int i)
{
	const char *function = *devices[i].address;

	if (access(attribute(function, ""), F_OK))
		skip(fmt("there is no %s, see --%s", function, devices[i].role));
	if (devices[i].sriov && access(attribute(function, "sriov_numvfs"), F_OK))
		skip(fmt("%s has no SR-IOV, see --%s", function, devices[i].role));
	note(before[i].driver, sizeof(before[i].driver), read_link(attribute(function, "driver")));
	note(before[i].numvfs, sizeof(before[i].numvfs),
	     read_file(attribute(function, "sriov_numvfs")));
	if (*before[i].numvfs)
		write_file(attribute(function, "sriov_numvfs"), "0");
	if (!devices[i].driver)
		free_device(function);
	else if (strcmp(devices[i].driver, before[i].driver))
		skip(fmt("%s is not on %s, see --%s", function, devices[i].driver,
			 devices[i].role));
}

static void release_device(int i)
{
	const char *function = *devices[i].address;

	if (*before[i].numvfs)
		write_file(attribute(function, "sriov_numvfs"), "0");
	free_device(function);
}

static void put_device_back(int i)
{
	const char *function = *devices[i].address;

	if (access(attribute(function, ""), F_OK))
		write_file("/sys/bus/pci/rescan", "1");
	free_device(function);
	if (*before[i].driver)
		write_file(fmt("/sys/bus/pci/drivers/%s/bind", before[i].driver), function);
	if (atoi(before[i].numvfs))
		write_file(attribute(function, "sriov_numvfs"), before[i].numvfs);
}

static void take_devices(void)
{
	for (int i = 0; i < DEVICES; i++)
		take_device(i);
}

static void put_devices_back(void)
{
	for (int i = 0; i < DEVICES; i++)
		release_device(i);
	restore_settings();
	unload_modules();
	for (int i = 0; i < DEVICES; i++)
		put_device_back(i);
}
