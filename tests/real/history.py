"""A short history of the packaged kernel, in a real repository; one commit breaks a claim.

Only what the lab's configuration builds is committed, and every Kconfig and makefile.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vfio_lab.kernels import gittree

UNUSED = """
    Documentation LICENSES arch drivers/gpu drivers/infiniband drivers/media drivers/net/wireless
    drivers/net/ethernet drivers/scsi drivers/staging drivers/usb rust samples sound
    tools/perf tools/testing tools/power
""".split()  # noqa: SIM905 - a list of 16 would take a line each
USED = ("arch/x86", "drivers/net/ethernet/intel")
KEPT = ("Kconfig", "Makefile", "Kbuild", "Platform")
CORE = "drivers/vfio/pci/vfio_pci_core.c"
MAIN = "drivers/vfio/vfio_main.c"
BOOT = "init/main.c"
LIB = "lib/uuid.c"
WHO = ("-c", "user.name=A Developer", "-c", "user.email=dev@invalid")
REMARK = "/* step {} */\n"


@dataclass(frozen=True)
class Step:
    """One commit: in a file, what becomes what; without an `old` a remark goes to the end."""

    subject: str
    path: str
    old: str = ""
    new: str = ""


FAIL = ("asmlinkage __visible", "#error no such luck\nasmlinkage __visible")
PANIC = ('pr_notice("%s", linux_banner);', 'panic("no such luck");')
WRONG = ("return -EACCES;", "return -EPERM;")
# Bisecting the whole of it, git comes to both the broken build and the broken boot.
STEPS = (
    *(Step(f"vfio: Remark {number}", MAIN) for number in range(1, 5)),
    Step("lib/uuid: Remark", LIB),
    Step("vfio: Remark 5", MAIN),
    Step("vfio: Remark 6", MAIN),
    Step("init: Break the build", BOOT, *FAIL),
    Step("init: Mend the build", BOOT, *reversed(FAIL)),
    Step("vfio: Remark 7", MAIN),
    Step("init: Break the boot", BOOT, *PANIC),
    Step("init: Mend the boot", BOOT, *reversed(PANIC)),
    Step("vfio/pci: Simplify the token check", CORE, *WRONG),
    *(Step(f"vfio: Remark {number}", MAIN) for number in range(8, 12)),
)
CULPRIT = "vfio/pci: Simplify the token check"

# Regressions that happened, each with a scenario that they break: what 479380efe162 did, what
# 6086efe73498 did until b25e271b3779, and what 5fcc26969a16 lacked until 86624ba3b522.
RESET = (
    "\t\tif (dev->dev_flags & PCI_DEV_FLAGS_NO_BUS_RESET ||\n"
    "\t\t    (dev->subordinate && !pci_bus_resettable(dev->subordinate)))\n"
)
SUPPORTED = "\t\tif (!pci_reset_supported(dev))\n\t\t\treturn false;\n"
NOIOMMU = "\t\t\tret = -EPERM;\n\t\t\tgoto out_put_kvm;\n\t\t}\n"
NOT_OPENED = "\t\tret = 0;\n\t\tgoto out_put_kvm;\n"
CHECK = "\tret = vfio_df_check_token(device, &bind);\n\tif (ret)\n\t\tgoto out_unlock;\n\n"
REGRESSIONS = {
    Step(
        "PCI: Avoid reset when disabled via sysfs",
        "drivers/pci/pci.c",
        RESET,
        SUPPORTED + RESET,
    ): "hot_reset/test_function_reset.py"
    "::test_a_function_without_a_reset_method_refuses_a_device_reset",
    Step(
        "vfio-iommufd: Move noiommu compat validation out of vfio_iommufd_bind()",
        "drivers/vfio/group.c",
        NOIOMMU,
        NOIOMMU + NOT_OPENED,
    ): "noiommu/test_iommufd_container.py"
    "::test_a_noiommu_device_on_an_iommufd_opens_without_a_type",
    Step("vfio: Add VFIO_DEVICE_BIND_IOMMUFD", "drivers/vfio/device_cdev.c", CHECK): (
        "vf_token/test_cdev.py::test_a_refused_bind_does_not_block_the_group"
    ),
}
NOISE = (MAIN, LIB, CORE, "drivers/vfio/vfio_iommu_type1.c", MAIN, "drivers/vfio/virqfd.c")
DRILL_COMMITS = 40
PLACES = (11, 22, 31)


def drill() -> tuple[Step, ...]:
    """Return 40 commits, the three regressions among them."""
    steps = [
        Step(f"noise: Remark {number}", NOISE[number % len(NOISE)])
        for number in range(DRILL_COMMITS - len(PLACES))
    ]
    for place, step in zip(PLACES, REGRESSIONS, strict=True):
        steps.insert(place, step)
    return tuple(steps)


# Two releases of a stable tree. The first regression came in between, as a backport.
UPSTREAM = "479380efe1625e251008d24b2810283db60d6fcd"
FIRST_REGRESSION = next(iter(REGRESSIONS))
STABLE = (
    Step("Linux 7.3.34", "Makefile", "SUBLEVEL = 4\n", "SUBLEVEL = 34\n"),
    *(Step(f"noise: Backport {number}", NOISE[number]) for number in range(4)),
    replace(FIRST_REGRESSION, subject=f"{FIRST_REGRESSION.subject}\n\ncommit {UPSTREAM} upstream."),
    *(Step(f"noise: Backport {number}", NOISE[number]) for number in range(4, 6)),
    Step("Linux 7.3.35", "Makefile", "SUBLEVEL = 34\n", "SUBLEVEL = 35\n"),
)


def make(source: Path, tree: Path, steps: Sequence[Step] = STEPS) -> None:
    """Make the repository.

    Args:
        source: top of the packaged sources.
        tree: the folder to make.
        steps: the commits on top of the sources.
    """
    for folder, folders, names in os.walk(source):
        place = Path(folder).relative_to(source)
        if place == Path():
            folders.remove("lab-out")
        unused = _below(place, UNUSED) and not _below(place, USED)
        (tree / place).mkdir(parents=True, exist_ok=True)
        for name in names:
            if name != ".gitignore" and (not unused or name.startswith(KEPT)):
                shutil.copyfile(Path(folder, name), tree / place / name)
                shutil.copymode(Path(folder, name), tree / place / name)
    gittree.git(tree, "init", "-q")
    gittree.git(tree, "config", "core.looseCompression", "0")
    commit(tree, "Linux, as packaged")
    grow(tree, steps)


def grow(tree: Path, steps: Sequence[Step]) -> None:
    """Put the steps on top."""
    for number, step in enumerate(steps):
        path = tree / step.path
        text = path.read_text()
        assert step.old in text
        path.write_text(
            text.replace(step.old, step.new) if step.old else text + REMARK.format(number)
        )
        commit(tree, step.subject, step.path)


def commit(tree: Path, subject: str, changed: str = "--all") -> None:
    """Commit a file, or everything."""
    gittree.git(tree, "add", changed)
    gittree.git(tree, *WHO, "commit", "-q", "-m", subject)


def _below(place: Path, folders: tuple[str, ...] | list[str]) -> bool:
    return any(place.is_relative_to(folder) for folder in folders)
