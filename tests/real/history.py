"""A short history of the packaged kernel, in a real repository; one commit breaks a claim.

Only what the lab's configuration builds is committed, and every Kconfig and makefile.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
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


def make(source: Path, tree: Path) -> None:
    """Make the repository.

    Args:
        source: top of the packaged sources.
        tree: the folder to make.
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
    grow(tree)


def grow(tree: Path) -> None:
    """Put the steps on top."""
    for number, step in enumerate(STEPS):
        path = tree / step.path
        text = path.read_text()
        assert step.old in text
        path.write_text(
            text.replace(step.old, step.new) if step.old else text + REMARK.format(number)
        )
        commit(tree, step.subject)


def commit(tree: Path, subject: str) -> None:
    """Commit all there is."""
    gittree.git(tree, "add", "-A")
    gittree.git(tree, *WHO, "commit", "-q", "-m", subject)


def _below(place: Path, folders: tuple[str, ...] | list[str]) -> bool:
    return any(place.is_relative_to(folder) for folder in folders)
