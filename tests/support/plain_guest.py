"""A guest without the lab's agent: init, a shell, and programs that run one after the other."""

import io
import re
import subprocess
import tarfile
from dataclasses import replace

from vfio_lab.hw.catalogue import find_topology
from vfio_lab.qemu.argv import RunFiles, argv

BOOT_S, PROGRAM_S = 120, 30
BOOT = """#!/bin/sh
cd /run/vfio-lab
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
modprobe -a vfio-pci vfio_iommu_type1
for program in programs/*; do
    echo "== begin ${program#programs/}"
    $program
    echo "== end ${program#programs/} $?"
done
echo b >/proc/sysrq-trigger
"""


def run_in_plain_guest(guest_factory, topology, programs, folder):
    """Run programs as root; return exit code and output by their names.

    Args:
        guest_factory: whose kernel and image the guest has.
        topology: name of its hardware.
        programs: their files, by name.
        folder: for the guest's disk.
    """
    payload = folder / "payload.tar"
    with tarfile.open(payload, "w") as archive:
        numbers = dict(enumerate(programs))
        content = {f"programs/{n:03}": programs[name].read_bytes() for n, name in numbers.items()}
        for name, data in {"boot": BOOT.encode(), **content}.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o700
            archive.addfile(member, io.BytesIO(data))
    spec = guest_factory.boot_spec(find_topology(topology), cold=True)
    command = argv(
        spec.topology,
        guest_factory.caps,
        guest_factory.accelerator.name,
        replace(spec.files, payload=payload),
        RunFiles(folder, "plain", interactive=True),
    )
    deadline_s = BOOT_S + PROGRAM_S * len(programs)
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, timeout=deadline_s, check=False
    )
    said = done.stdout.decode(errors="replace").replace("\r", "")
    pattern = re.compile(r"== begin (\d+)\n(.*?)== end \1 (\d+)\n", re.DOTALL)
    return {numbers[int(n)]: (int(code), text) for n, text, code in pattern.findall(said)}
