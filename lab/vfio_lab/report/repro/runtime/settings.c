/* What steps change in files, and the modules that they load: undone at the end. */
static maybe_unused void note(char *kept, size_t size, const char *text)
{
	size_t length = text ? strnlen(text, size - 1) : 0;

	memcpy(kept, text ? text : "", length);
	kept[length] = '\0';
}

/* The file's first line before the first step that writes it; some can only be written. */
static maybe_unused void keep_setting(const char *path)
{
	const char *text = read_file(path);
	int count = atomic_load(&shared->settings_kept);

	for (int i = 0; i < count; i++)
		if (!strcmp(shared->settings[i].path, path))
			return;
	if (!text || count == MOST_SETTINGS)
		return;
	note(shared->settings[count].path, sizeof(shared->settings->path), path);
	note(shared->settings[count].text, sizeof(shared->settings->text), text);
	atomic_store(&shared->settings_kept, count + 1);
}

static maybe_unused long set_file(const char *path, const char *text)
{
	keep_setting(path);
	return write_file(path, text);
}

/* "(null)" and nothing at all are how sysfs shows that nothing is set. */
static void restore_settings(void)
{
	for (int i = atomic_load(&shared->settings_kept) - 1; i >= 0; i--) {
		const char *text = shared->settings[i].text;

		write_file(shared->settings[i].path, !*text || *text == '(' ? "\n" : text);
	}
}

/* A driver takes the functions that wait for it when it is loaded; if it was there, tell it. */
static maybe_unused long load_module(const char *name, const char *parameters)
{
	bool there = !access(fmt("/sys/module/%s", name), F_OK);
	long code = run("modprobe", name, parameters, NULL);
	int count = atomic_load(&shared->modules_loaded);

	if (!there && count < MOST_MODULES) {
		note(shared->modules[count], sizeof(*shared->modules), name);
		atomic_store(&shared->modules_loaded, count + 1);
	}
	for (int i = 0; there && i < DEVICES; i++)
		if (!read_link(attribute(*devices[i].address, "driver")))
			write_file("/sys/bus/pci/drivers_probe", *devices[i].address);
	return code;
}

static void unload_modules(void)
{
	for (int i = atomic_load(&shared->modules_loaded) - 1; i >= 0; i--)
		run("modprobe", "--remove", shared->modules[i], NULL);
	load_vfio();
}
