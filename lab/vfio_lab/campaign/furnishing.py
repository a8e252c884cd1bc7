"""Makes a host ready for workers: the lab, the project, kernels and what guests start from."""

from __future__ import annotations

from collections.abc import Container, Sequence
from pathlib import Path, PurePosixPath

from vfio_lab.campaign import worker_files
from vfio_lab.campaign.worker_files import Furnished
from vfio_lab.campaign.worker_hosts import OPTIONS, Reached, WorkerHost, reach
from vfio_lab.kernels.packaged import Kernel
from vfio_lab.machine.guest import BootSpec
from vfio_lab.machine.template import GuestFactory
from vfio_lab.util import progress
from vfio_lab.util.cache import Cache


def furnish(
    host: WorkerHost,
    root: Path,
    machines: Sequence[GuestFactory | BootSpec],
    wanted: Container[str],
) -> tuple[Furnished, str]:
    """Put on a host what its workers need and it lacks; return it, and a line about it.

    Args:
        host: the host.
        root: the project's folder.
        machines: what the run's guests are made from, one for each kernel.
        wanted: names of topologies whose templates are sent.

    Raises:
        HostError: the host cannot take part.
    """
    with progress.task(f"Preparing host {host.name}"):
        reached, cache = reach(host), Cache.default().open()
        site = worker_files.send_packages(reached)
        project = worker_files.send_project(reached, root)
        python = reached.python(*worker_files.code_folders(project, root), site)
        kernels = tuple(_own_kernel(reached, machine.kernel) for machine in machines)
        there, count = Furnished(reached, python, project, kernels), 0
        for machine in machines:
            contents = worker_files.contents_for(cache, machine.kernel, wanted)
            facts = worker_files.ask(there, contents)
            sent = worker_files.lacking(contents, facts, machine.caps.digest)
            count += len(sent.entries)
            if sent.entries:
                worker_files.send_cache(there, cache, sent)
    line = (
        f"host {host.name}: QEMU {facts['qemu']}, {facts['accelerator']}, {reached.jobs} guests at"
        f" a time; {count} entries sent to its cache"
    )
    return there, line


def xspec(there: Furnished, folder: PurePosixPath) -> str:
    """Return how execnet starts a worker on a host, in a folder."""
    ssh, python = " ".join((*OPTIONS, there.name)), " ".join(there.python)
    return f"ssh={ssh}//python={python}//chdir={folder}"


def _own_kernel(reached: Reached, kernel: Kernel) -> str:
    """Send a kernel that has no name; return its folder there, empty for one that has a name."""
    if worker_files.in_catalogue(kernel):
        return ""
    return str(worker_files.send_kernel(reached, kernel))
