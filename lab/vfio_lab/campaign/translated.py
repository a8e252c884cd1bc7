"""What a guest's kernel ran, as QEMU's translator saw it.

A plugin of QEMU writes down each block of kernel code that is translated, which happens when it
runs for the first time.
"""

from __future__ import annotations

import array
import os
import re
import shutil
from pathlib import Path

from vfio_lab.machine.base import TestMachine, start_user
from vfio_lab.util import resources
from vfio_lab.util.process import pipeline

MODULES = "modules.txt"
RAN = "ran"
PART_BYTES = 1 << 18
MODULE = re.compile(r"(\w+) \d+ \d+ \S+ \w+ (0x[0-9a-f]{16})")
PLUGIN = resources.PACKAGE / "qemu/plugin/ran.c"
PLUGIN_FLAGS = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC")
# Adds the plugin to QEMU's command line; the file that it writes is named after the guest.
WRAPPER = """\
#!/bin/sh
for word; do
  case $word in
    guest=*) name=${{word#guest=}}; name=${{name%%,*}};;
  esac
done
[ -z "$name" ] || set -- "$@" -plugin "file={plugin},out={ran}/$name.$$"
exec {qemu} "$@"
"""
# Addresses in the plugin's file are relative to this, in bytes; see plugin/ran.c.
KERNEL = 0xFFFFFFFF80000000


def write_wrapper(folder: Path, qemu: Path) -> Path:
    """Compile the plugin into a folder, and return a QEMU that loads it.

    Args:
        folder: the folder; what guests ran is written below `ran` in it.
        qemu: the QEMU that guests run on.

    Raises:
        BuildError: the plugin does not compile.
    """
    plugin, ran, wrapper = folder / "ran.so", folder / RAN, folder / qemu.name
    command = ["gcc", *PLUGIN_FLAGS, "-o", os.fspath(plugin), os.fspath(PLUGIN)]
    pipeline("compile the plugin for QEMU", command, log=folder / "plugin.log")
    ran.mkdir()
    wrapper.write_text(WRAPPER.format(plugin=plugin, ran=ran, qemu=qemu))
    wrapper.chmod(0o700)
    return wrapper


def note_modules(guest: TestMachine) -> None:
    """Append /proc/modules, which has the modules' addresses, to a file of the evidence."""
    text = start_user(guest.channel, "noter").read_file("/proc/modules")
    with (guest.folder / MODULES).open("a") as file:
        file.write(f"{text}\n")


def read_modules(path: Path) -> set[tuple[str, int]]:
    """Return the modules that a guest had, with their addresses in the plugin's files."""
    found = MODULE.findall(path.read_text())
    return {(name, int(address, 16) - KERNEL) for name, address in found}


def read_blocks(path: Path) -> set[tuple[int, int]]:
    """Return the blocks that a guest ran, each with its address and its size in bytes."""
    data = array.array("I")
    with path.open("rb") as file:
        for part in iter(lambda: file.read(PART_BYTES), b""):
            data.frombytes(part)
            if not data[-1]:  # what follows is unused
                break
    return set(zip(data[::2], data[1::2], strict=True)) - {(0, 0)}


def forget_blocks(folder: Path) -> None:
    """Delete what guests ran, which is large."""
    shutil.rmtree(folder / RAN, ignore_errors=True)
