"""Templates: a guest booted once, frozen on disk, cloned in a fraction of a second.

Memory lives in a shared file while the template boots. Its devices are then migrated to a small
state file with the memory left where it is (`x-ignore-shared`). A clone maps the same file
privately and loads the state: the kernel copies pages only as they are written.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import click

from lab import console, image, kernel, kmodules, payload, progress, qemucaps
from lab.argv import BootFiles, RunFiles, argv
from lab.cache import Cache, digest
from lab.deadline import Deadline
from lab.errors import BuildError
from lab.guest import Guest, Machine
from lab.host import Accelerator, accelerator
from lab.image import Image
from lab.inventory import check
from lab.kernel import Kernel
from lab.qemucaps import QemuCaps
from lab.topology import Topology
from lab.vfio import VfioUser

SETTLE_TIMEOUT_S = 60.0
FREEZE_TIMEOUT_S = 60.0
USERS_IN_RESERVE = 4
# Where templates are kept, how many (some 85 MB each; three kernels with all topologies are 27),
# and how many seconds one must have been idle to go: other runs may be at those of trial kernels.
LASTING = ("template", 48, 0.0)
PASSING = ("trial", 16, 600.0)
RECIPE = 1  # raise when this module freezes differently


@dataclass(frozen=True)
class Workshop:
    """What every template of a run is made with.

    Args:
        cache: where templates live.
        kernel: what they boot.
        image: their root file system.
        caps: what this QEMU can do.
        accelerator: kvm or tcg.
    """

    cache: Cache
    kernel: Kernel
    image: Image
    caps: QemuCaps
    accelerator: Accelerator

    @classmethod
    def open(
        cls, cache: Cache, kernel_name: str | None = None, modules: Path | None = None
    ) -> Workshop:
        """Return the workshop for a kernel, building what the cache lacks.

        Args:
            cache: where everything built lives.
            kernel_name: the newest packaged one if not given.
            modules: folder of modules that replace the kernel's own.

        Raises:
            HostError: this host cannot run or build it.
            UsageError: there is no kernel of that name, or the modules are not for it.
        """
        replacing = kmodules.found_in(modules) if modules else []
        caps = qemucaps.probe()
        built = kernel.obtain(kernel_name or kernel.catalogue().default, cache.open())
        if replacing:
            built = kmodules.replaced(built, replacing, cache)
        root_fs = image.obtain(cache)
        return cls(cache, built, root_fs, caps, accelerator(caps, cache, built))

    def machine(self, topology: Topology) -> Machine:
        """Return what a guest with that hardware boots from, cold."""
        content = payload.files(self.cache)
        key = payload.payload_digest(content)[:16]
        folder = self.cache.obtain(
            "payload", key, lambda scratch: payload.pack(content, scratch / "payload.tar")
        )
        files = BootFiles(
            kernel=self.kernel.bzimage,
            image=self.image.path,
            fstype=self.image.fstype,
            modules=self.kernel.modules,
            payload=folder / "payload.tar",
        )
        keys = payload.keys(self.cache)
        return Machine(topology, self.kernel, self.caps, self.accelerator, files, keys)

    def template(self, topology: Topology) -> Machine:
        """Return what a clone with that hardware starts from, freezing it first if need be.

        Raises:
            BuildError: the guest could not be frozen, or is not what the topology says.
            BootError: it did not boot.
        """
        cold = self.machine(topology)
        title = f"Freezing template {topology.name} on kernel {self.kernel.name}"
        kind, kept, idle_s = LASTING if self.kernel.lasting else PASSING
        entry = self.cache.obtain(
            kind,
            self._key(cold),
            lambda scratch: _freeze(cold, scratch, self.cache.root / "logs", title),
            on_wait=lambda: click.echo(f"{title}: another run is at it; waiting", err=True),
        )
        self.cache.prune(kind, kept, idle_s)
        files = replace(cold.files, ram=entry / "ram", state=entry / "state")
        return replace(cold, files=files)

    def _key(self, cold: Machine) -> str:
        """Return the digest of all that goes into a template."""
        nowhere = RunFiles(Path("/run"), "guest", qmp_fd=3, agent_fd=4)
        command = argv(cold.topology, self.caps, self.accelerator.name, cold.files, nowhere)
        inputs = {
            "recipe": RECIPE,
            "argv": command,
            "qemu": self.caps.digest,
            "kernel": self.kernel.digest,
            "image": self.image.digest,
            "payload": cold.files.payload.parent.name,
        }
        return f"{cold.topology.name}-{digest(inputs)[:16]}"


def _freeze(cold: Machine, scratch: Path, logs: Path, title: str) -> None:
    ram, state = scratch / "ram", scratch / "state"
    booting = replace(cold, files=replace(cold.files, ram=ram))
    with progress.task(title):
        name = f"template-{cold.topology.name}-{cold.kernel.name.replace(':', '-')}"
        guest = Guest.boot(name, booting, logs / name)
        try:
            guest.settled(Deadline.after(SETTLE_TIMEOUT_S * cold.kernel.slowness))
            check(guest)
            _check_log(guest)
            _warm_up(guest)
            _save(guest, state)
        finally:
            guest.close()
    if not cold.kernel.lasting:
        shutil.rmtree(logs / name, ignore_errors=True)
    facts = {"topology": cold.topology.name, "kernel": cold.kernel.name}
    (scratch / "template.json").write_text(json.dumps(facts))


def _check_log(guest: Guest) -> None:
    """Refuse to freeze a guest whose kernel complained while it booted."""
    found = console.complaints(console.read(guest.console))
    if found:
        raise BuildError(
            f"the kernel complained while {guest.name} booted: {found[0].headline}",
            tail=found[0].report,
            where=guest.console,
        )


def _warm_up(guest: Guest) -> None:
    """Walk once through what every scenario does, so that clones find it in memory."""
    guest.user("warm-up").run("true")
    for user in guest.users:
        user.kill()
    for pid in guest.ask("reserve", "fork users ahead of need", count=USERS_IN_RESERVE)["pids"]:
        user = VfioUser(guest.channel, pid, "reserve")
        user.close(user.open_path("/dev/vfio/vfio"))
        user.read_file("/proc/sys/kernel/tainted")
    guest.kernel_log()


def _save(guest: Guest, state: Path) -> None:
    # The guest runs until the migration itself stops it: saved as running, a clone needs no
    # `cont` when its state is loaded.
    deadline = Deadline.after(FREEZE_TIMEOUT_S)
    qmp = guest.qmp
    capabilities = [{"capability": name, "state": True} for name in ("x-ignore-shared", "events")]
    qmp.execute("migrate-set-capabilities", deadline=deadline, capabilities=capabilities)
    qmp.execute("migrate", deadline=deadline, uri=f"file:{state}")
    while True:
        status = qmp.await_event("MIGRATION", deadline=deadline)["data"]["status"]
        if status == "completed":
            return
        if status == "failed":
            raise BuildError(
                f"QEMU could not freeze {guest.name}",
                seen=str(qmp.execute("query-migrate", deadline=deadline)),
                where=qmp.log_path,
                hint="a device of this topology cannot be migrated: mark it not freezable",
            )
