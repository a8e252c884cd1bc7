"""What a part of the stress lane found, as a row of the table in docs/stress.md."""

from __future__ import annotations

import datetime
import platform
from dataclasses import dataclass
from pathlib import Path

from vfio_lab.qemu.accelerator import choose_accelerator
from vfio_lab.qemu.capabilities import probe_qemu
from vfio_lab.util import host
from vfio_lab.util.cache import Cache
from vfio_lab.util.files import write_whole
from vfio_lab.util.progress import duration

PROJECT = Path(__file__).parents[2]
PAGE = PROJECT / "docs" / "stress.md"
SHOWN = 3
END = "<!-- rows end here -->\n"


@dataclass(frozen=True)
class Finding:
    """What a part found.

    Args:
        part: its name.
        seconds: how long it ran.
        did: what was done, with numbers.
        wrong: what was not as it must be, empty if nothing.
    """

    part: str
    seconds: float
    did: str
    wrong: tuple[str, ...] = ()

    def row(self, load: float) -> str:
        """Return the finding as a row."""
        cores, (memory, _) = host.cores(), host.memory_bytes()
        gigabytes = memory / (1 << 30)
        kvm = choose_accelerator(probe_qemu(), Cache.default().open()).name.upper()
        machine = f"{platform.machine()}, {cores} cores, {gigabytes:.0f} GB, {kvm}, load {load:.0f}"
        date = datetime.datetime.now().strftime("%Y-%m-%d")
        more = f"; and {len(self.wrong) - SHOWN} more" if len(self.wrong) > SHOWN else ""
        verdict = "; ".join(self.wrong[:SHOWN]) + more or "held"
        cells = (date, self.part, duration(self.seconds), machine, self.did, verdict)
        return f"| {' | '.join(cells)} |\n"


def add_row(finding: Finding, load: float) -> None:
    """Append a finding to the table."""
    text = PAGE.read_text()
    write_whole(PAGE, text.replace(END, finding.row(load) + END), 0o644)
