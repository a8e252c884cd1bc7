/* PCI functions, by what sysfs says of them. */
static maybe_unused const char *attribute(const char *function, const char *name)
{
	return fmt("/sys/bus/pci/devices/%s/%s", function, name);
}

static maybe_unused unsigned int number_in(const char *function, const char *name)
{
	const char *text = read_file(attribute(function, name));

	return text ? strtoul(text, NULL, 0) : 0;
}

static maybe_unused const char *vf(const char *pf, unsigned int number)
{
	unsigned int domain, bus, device, function, address;

	if (sscanf(pf, "%x:%x:%x.%x", &domain, &bus, &device, &function) != 4)
		return pf;
	address = (bus << 8 | device << 3 | function) + number_in(pf, "sriov_offset") +
		  number_in(pf, "sriov_stride") * number;
	return fmt("%04x:%02x:%02x.%x", domain, address >> 8, address >> 3 & 0x1f, address & 7);
}

static maybe_unused const char *group_of(const char *function)
{
	const char *number = read_link(attribute(function, "iommu_group"));

	return fmt("%s", number ? number : "none");
}

static maybe_unused const char *cdev_of(const char *function)
{
	DIR *folder = opendir(attribute(function, "vfio-dev"));
	const char *name = "none";
	struct dirent *entry;

	while (folder && (entry = readdir(folder)))
		if (entry->d_name[0] != '.')
			name = fmt("%s", entry->d_name);
	if (folder)
		closedir(folder);
	return name;
}

/* The slot with a function in it; its address has no function number. */
static maybe_unused const char *slot_of(const char *function)
{
	DIR *folder = opendir("/sys/bus/pci/slots");
	const char *name = "none";
	struct dirent *entry;

	while (folder && (entry = readdir(folder))) {
		const char *text = read_file(fmt("/sys/bus/pci/slots/%s/address", entry->d_name));

		if (text && !strncmp(function, text, strlen(text)))
			name = fmt("%s", entry->d_name);
	}
	if (folder)
		closedir(folder);
	return name;
}
