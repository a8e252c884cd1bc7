"""`python -m kvm [--outer KERNEL]`: run the lab on KVM, on a host that has none, too.

QEMU's emulated CPU has SVM, so KVM works in a guest without virtualization. virtme-ng boots such a
guest with the host's own files; what is written stays in the guest's memory. Its kernel is older
than 6.14: newer ones give a guest up where QEMU's SVM reports an interrupt twice.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

from vfio_lab.errors import HostError
from vfio_lab.kernels.packaged import Kernel, kernel_catalogue
from vfio_lab.kernels.selector import ensure_kernel
from vfio_lab.qemu.accelerator import choose_accelerator
from vfio_lab.qemu.capabilities import probe_qemu
from vfio_lab.util import host
from vfio_lab.util.cache import Cache

PROJECT = Path(__file__).resolve().parents[2]
OUTER = "6.12"
CPUS, MEMORY = 2, "8G"
MODULES = ("irqbypass", "kvm", "kvm-amd")
CODE, CONSOLE = "code", "console.log"
# One scenario of each area, mostly on one topology: a template takes a minute here.
WORK = (
    "tests/kvm",
    "tests/guests/test_guests.py::test_a_panic_ends_the_scenario_at_once_with_its_reason",
    "tests/guests/test_guests.py::test_a_triple_fault_ends_the_scenario_at_once",
    "tests/guests/test_guests.py::test_a_killed_qemu_ends_the_scenario_at_once",
    "scenarios/vf_token/test_match.py",
    "scenarios/sriov/test_pf_resets.py::test_the_first_open_of_a_pf_resets_its_vfs",
    "scenarios/hot_reset/test_contention.py::test_a_hot_reset_fails_during_another_reset",
    "scenarios/noiommu/test_reach.py::test_an_iommu_protects_memory_that_is_not_mapped",
    "scenarios/groups/test_legacy_assignment.py::test_kvm_assigns_no_devices_itself",
    "scenarios/device/test_low_power.py::test_a_device_that_wakes_signals_its_eventfd_once",
    "scenarios/memory/test_opening.py::test_a_failed_open_does_not_count_the_vf_as_in_use",
    "scenarios/iommus/test_address_spaces.py::test_a_copy_maps_the_same_memory",
    "scenarios/exhaustion/test_locked_memory.py::test_an_address_space_maps_what_may_be_locked",
    "scenarios/processes/test_exec_and_fork.py::test_what_a_child_unmaps_is_credited_to_its_parent",
    "scenarios/many/test_many_rounds.py::test_vfs_that_come_and_go_are_the_same_in_each_round",
    "scenarios/interrupts/test_host_side.py::test_each_vector_is_an_interrupt_of_the_host",
    "scenarios/kvm/test_vfio_device.py::test_a_file_is_added_once_and_removed_once",
    "scenarios/sysfs/test_readers.py::test_sysfs_is_read_while_a_driver_comes_and_goes",
)
# Loads KVM, runs the tests and leaves their exit code where the host finds it.
INSIDE = """\
#!/bin/bash
for module in {modules}; do insmod "$module" || exit; done
export HOME={home} XDG_CACHE_HOME={cache}
cd {project}
{command}
echo $? >{code}
"""


def pytest_command(work: tuple[str, ...]) -> list[str]:
    """Return the command line that runs tests one after another, in their order."""
    options = ("-v", "-p", "no:cacheprovider", "-p", "no:randomly")
    return [sys.executable, "-m", "pytest", *options, *work]


def inside(folder: Path, kernel: Kernel, cache: Path, work: tuple[str, ...]) -> Path:
    """Write the program that runs in the guest, with the modules that it loads.

    Args:
        folder: the folder that the guest writes to.
        kernel: the guest's kernel.
        cache: the lab's cache.
        work: what pytest runs.
    """
    modules = folder / "modules"
    command = ["unsquashfs", "-quiet", "-no-progress", "-dest", modules, kernel.modules]
    subprocess.run(command, check=True)
    found = [next(modules.rglob(f"{name}.ko")) for name in MODULES]
    program = folder / "inside"
    program.write_text(
        INSIDE.format(
            modules=" ".join(shlex.quote(os.fspath(path)) for path in found),
            home=shlex.quote(os.fspath(Path.home())),
            cache=shlex.quote(os.fspath(cache.parent)),
            project=shlex.quote(os.fspath(PROJECT)),
            command=shlex.join(pytest_command(work)),
            code=shlex.quote(os.fspath(folder / CODE)),
        )
    )
    program.chmod(0o700)
    return program


def virtme(folder: Path, kernel: Kernel, cache: Path, program: Path) -> list[str]:
    """Return the command line that boots the guest and runs a program in it."""
    vng = host.own_script("vng")
    if vng is None:
        raise HostError("cannot boot a host for KVM", seen="no vng", hint="make setup")
    # fmt: off
    command = [
        vng, "--verbose", "--run", kernel.bzimage,
        "--disable-kvm", "--disable-microvm", "--force-9p",
        "--cpus", CPUS, "--memory", MEMORY,
        "--overlay-rwdir", cache, "--overlay-rwdir", PROJECT,
        "--rwdir", folder,
        "--qemu", probe_qemu().binary, "--qemu-opts=-cpu max",
        "--append=loglevel=4",
        "--exec", program,
    ]
    # fmt: on
    # virtme-ng shows the guest's output on a terminal only.
    words = shlex.join(map(str, command))
    return ["script", "--quiet", "--return", "--flush", "--command", words, folder / CONSOLE]


def in_a_guest(outer: str, cache: Cache, work: tuple[str, ...]) -> int:
    """Run tests on KVM in a guest, and return pytest's exit code, 125 if there is none."""
    kernel = ensure_kernel(outer, cache)
    with tempfile.TemporaryDirectory(prefix="vfio-lab-kvm-") as scratch:
        folder = Path(scratch)
        program = inside(folder, kernel, cache.root, work)
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        command = virtme(folder, kernel, cache.root, program)
        environment = {**os.environ, "PATH": path}
        subprocess.run(command, stdin=subprocess.DEVNULL, env=environment, check=False)
        code = folder / CODE
        return int(code.read_text()) if code.exists() else 125


@click.command()
@click.option("--outer", default=OUTER, show_default=True, help="Kernel of the guest with KVM.")
@click.argument("work", nargs=-1)
def main(outer: str, work: tuple[str, ...]) -> None:
    """Run the tests of tests/kvm, the token scenarios and one scenario of each area on KVM.

    They run on this host if it has KVM, else in a guest.
    """
    began = time.monotonic()
    cache = Cache.default().open()
    bzimage = ensure_kernel(kernel_catalogue().default, cache).bzimage
    here = choose_accelerator(probe_qemu(), cache, bzimage).name == "kvm"
    if here:
        code = subprocess.run(pytest_command(work or WORK), cwd=PROJECT, check=False).returncode
    else:
        code = in_a_guest(outer, cache, work or WORK)
    where = "on this host" if here else f"in a guest of kernel {outer}"
    click.echo(f"on KVM {where}: exit code {code} after {time.monotonic() - began:.0f} s")
    sys.exit(code)


main()
