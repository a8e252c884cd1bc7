/* Devices: found free, and put back as they were. */
struct device {
	char driver[64];
	char numvfs[16];
};

static struct device before[DEVICES];
static const char *const switches[] = {
	"/sys/module/vfio_pci/parameters/enable_sriov",
	"/sys/module/vfio/parameters/enable_unsafe_noiommu_mode",
	"/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts",
};
#define SWITCHES (sizeof(switches) / sizeof(*switches))
static char switched[SWITCHES][8];

/* A driver takes the functions that wait for it when it is loaded; if it was there, tell it. */
static maybe_unused long load_module(const char *name)
{
	bool there = !access(fmt("/sys/module/%s", name), F_OK);
	long code = run("modprobe", name, NULL);

	for (int i = 0; there && i < DEVICES; i++)
		if (!read_link(attribute(*devices[i].address, "driver")))
			write_file("/sys/bus/pci/drivers_probe", *devices[i].address);
	return code;
}

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

static void note(char *kept, size_t size, const char *text)
{
	size_t length = text ? strnlen(text, size - 1) : 0;

	memcpy(kept, text ? text : "", length);
	kept[length] = '\0';
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

static void put_device_back(int i)
{
	const char *function = *devices[i].address;

	if (access(attribute(function, ""), F_OK))
		write_file("/sys/bus/pci/rescan", "1");
	if (*before[i].numvfs)
		write_file(attribute(function, "sriov_numvfs"), "0");
	if (strcmp(before[i].driver, "pcieport")) {
		free_device(function);
		write_file(attribute(function, "driver_override"), "\n");
	}
	if (*before[i].driver)
		write_file(fmt("/sys/bus/pci/drivers/%s/bind", before[i].driver), function);
	if (atoi(before[i].numvfs))
		write_file(attribute(function, "sriov_numvfs"), before[i].numvfs);
}

static void take_devices(void)
{
	for (unsigned int i = 0; i < SWITCHES; i++)
		note(switched[i], sizeof(switched[i]), read_file(switches[i]));
	for (int i = 0; i < DEVICES; i++)
		take_device(i);
}

static void put_devices_back(void)
{
	for (int i = 0; i < DEVICES; i++)
		put_device_back(i);
	for (unsigned int i = 0; i < SWITCHES; i++)
		if (*switched[i])
			write_file(switches[i], switched[i]);
}
