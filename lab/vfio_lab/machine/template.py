"""Templates: a guest booted once, frozen on disk, cloned in a fraction of a second.

Memory lives in a shared file while the template boots. Its devices are then migrated to a small
state file with the memory left where it is (`x-ignore-shared`). A clone maps the same file
privately and loads the state: the kernel copies pages only as they are written.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import astuple, dataclass, field, replace
from pathlib import Path

from vfio_lab.arch import AARCH64
from vfio_lab.errors import BuildError, UsageError, WrongClock
from vfio_lab.hw.topology import Topology
from vfio_lab.image import initramfs, payload, rootfs
from vfio_lab.image.rootfs import Image
from vfio_lab.kernels import kmodules, selector
from vfio_lab.kernels.packaged import Kernel
from vfio_lab.machine.guest import BOOT_LOG, BootSpec, Guest
from vfio_lab.machine.hardware import verify_hardware, verify_migratable
from vfio_lab.qemu import capabilities, console
from vfio_lab.qemu.accelerator import Accelerator, choose_accelerator, host_cpu
from vfio_lab.qemu.argv import BootFiles, RunFiles, argv
from vfio_lab.qemu.capabilities import QemuCaps
from vfio_lab.spec.changes import load_changes
from vfio_lab.util import progress
from vfio_lab.util.cache import Cache, digest
from vfio_lab.util.deadline import Deadline
from vfio_lab.util.files import require_shared_mappings
from vfio_lab.vfio import VfioUser
from vfio_lab.workloads import selftests

LOG = logging.getLogger(__name__)
SETTLE_TIMEOUT_S = 60.0
FREEZE_TIMEOUT_S = 60.0
USERS_IN_RESERVE = 4
BOOTS = 3
# Where templates are kept, how many (some 85 MB each; three kernels with all topologies are 75),
# and for how many seconds a template must be unused to be deleted: other runs may use it.
LASTING = ("template", 128, 600.0)
PASSING = ("trial", 16, 600.0)
RECIPE = 4  # increase when this module freezes differently
ABOUT_VFIO = re.compile("vfio|iommufd", re.IGNORECASE)
# Features of distribution kernels that cost a guest without KVM seconds and that no claim needs.
FOREIGN_ARGS = ("mitigations=off", "nokaslr", "init_on_alloc=0", "cryptomgr.notests=1")
# Before this change a device tree's IOMMU asked for ACS when the first driver came: root ports had
# none, and what is below them shared their group.
ACS_IN_TIME = "bcb81ac6ae3c"
ACS_ARGS = ("pci=config_acs=11101@pci:1b36:000c",)


@dataclass(frozen=True)
class Disks:
    """The disks of a guest, without that of the kernel's modules.

    Args:
        image: the root file system.
        payload: the tar with what the lab puts into it.
    """

    image: Image
    payload: Path


@dataclass(frozen=True)
class GuestFactory:
    """Everything that the templates of a run have in common.

    Args:
        cache: where templates live.
        kernel: the kernel that they boot.
        caps: what this QEMU can do.
        accelerator: kvm or tcg.
    """

    cache: Cache
    kernel: Kernel
    caps: QemuCaps
    accelerator: Accelerator
    _disks: dict[str, Disks] = field(default_factory=dict, compare=False)

    def __repr__(self) -> str:
        """Return `GuestFactory(kernel 7.3, tcg)`."""
        return f"{type(self).__name__}(kernel {self.kernel.name}, {self.accelerator.name})"

    @classmethod
    def open(
        cls,
        cache: Cache,
        kernel_name: str | None = None,
        modules: Path | None = None,
        qemu: str | None = None,
        architecture: str | None = None,
    ) -> GuestFactory:
        """Return the factory for a kernel, building what the cache lacks.

        Args:
            cache: where everything built lives.
            kernel_name: the name of a packaged kernel, the newest by default, or a path that
                `vfio_lab.kernels.selector` takes.
            modules: folder of modules that replace the kernel's own.
            qemu: the path of a QEMU, by default the one on PATH.
            architecture: the name of the guests' architecture, by default that of the kernel.

        Raises:
            HostError: this host cannot run or build it.
            UsageError: there is no kernel of that name, or the modules are not for it.
        """
        replacing = kmodules.found_in(modules) if modules else []
        asked = selector.ask_kernel(kernel_name, architecture)
        caps = capabilities.probe_qemu(qemu or "", asked.architecture)
        built = selector.ensure_kernel(asked.name, cache.open(), asked.architecture)
        if replacing:
            built = kmodules.replaced(built, replacing, cache)
        guest_factory = cls(cache, built, caps, choose_accelerator(caps, cache, built.bzimage))
        guest_factory.disks(rootfs.BASE)
        return guest_factory

    def disks(self, image_name: str) -> Disks:
        """Return the disks of guests with that root file system, building what is missing.

        Raises:
            UsageError: there is no image of that name.
            HostError: this host cannot build it.
        """
        if image_name not in self._disks:
            root_fs = rootfs.ensure_image(self.cache, image_name, self.caps.architecture)
            content = payload.payload_files(self.cache, self.caps.architecture) | self._extras(
                root_fs
            )
            key = payload.payload_digest(content)[:16]
            folder = self.cache.obtain(
                "payload", key, lambda scratch: payload.pack_tar(content, scratch / "payload.tar")
            )
            self._disks[image_name] = Disks(root_fs, folder / "payload.tar")
        return self._disks[image_name]

    def start(self, name: str, topology: Topology, folder: Path) -> Guest:
        """Return a guest that is awake, with the lab's usual root file system.

        Args:
            name: what the guest is called.
            topology: its hardware.
            folder: where console, logs and transcript go.

        Raises:
            BuildError: its template could not be frozen.
            BootError: it did not become ready.
        """
        return Guest.start(name, self.boot_spec(topology), folder)

    def boot_spec(
        self, topology: Topology, image_name: str = rootfs.BASE, *, cold: bool = False
    ) -> BootSpec:
        """Return what a guest is started from: a template, if the topology can be frozen.

        Args:
            topology: its hardware.
            image_name: its root file system.
            cold: boot from power-on in any case.

        Raises:
            BuildError: the template could not be frozen, or its hardware is not the topology's.
            BootError: it did not boot.
        """
        topology = topology.on(self.caps.architecture)
        if topology.lacking:
            raise UsageError(
                f"there is no topology {topology.name} on {topology.architecture}",
                expected=topology.lacking,
                seen=f"a machine {self.caps.architecture.machine[0]} without it",
            )
        spec = self._cold(topology, image_name)
        if cold or not topology.freezable:
            return spec
        return self._template(spec, self.disks(image_name).image)

    def _cold(self, topology: Topology, image_name: str) -> BootSpec:
        disks = self.disks(image_name)
        files = BootFiles(
            kernel=self.kernel.vmlinux or self.kernel.bzimage,
            image=disks.image.path,
            fstype=disks.image.fstype,
            modules=self.kernel.modules,
            payload=disks.payload,
            initramfs=self.kernel.initramfs,
            kernel_args=self._kernel_args(topology),
        )
        keys = payload.keys(self.cache)
        return BootSpec(topology, self.kernel, self.caps, self.accelerator, files, keys)

    def _kernel_args(self, topology: Topology) -> tuple[str, ...]:
        """Return words for the command line that this kernel needs."""
        words: tuple[str, ...] = FOREIGN_ARGS if self.kernel.initramfs else ()
        in_time = self.kernel.carries(load_changes()[ACS_IN_TIME])
        if self.caps.architecture == AARCH64 and not in_time:
            words += () if topology.groups_follow_boot_words else ACS_ARGS
        return words

    def _template(self, cold: BootSpec, image: Image) -> BootSpec:
        """Return what a clone of such a guest starts from, freezing it if need be."""
        require_shared_mappings(self.cache.open().root)
        inputs = self._inputs(cold, image)
        key = f"{cold.topology.name}-{digest(inputs)[:16]}"
        log = self.cache.root / "logs" / f"template-{key}"
        title = f"Freezing template {cold.topology.name} on kernel {self.kernel.name}"
        kind, kept, idle_s = LASTING if self.kernel.lasting else PASSING
        entry = self.cache.obtain(
            kind,
            key,
            lambda scratch: _freeze(cold, scratch, log, title),
            inputs=inputs,
            on_wait=lambda: LOG.info("%s: waiting for another run that does it", title),
        )
        self.cache.prune(kind, kept, idle_s)
        files = replace(cold.files, ram=entry / "ram", state=entry / "state")
        return replace(cold, files=files)

    def _extras(self, root_fs: Image) -> dict[str, bytes]:
        """Return what image and kernel want carried along, by names in the payload."""
        found = selftests.own_selftest_files(self.kernel.bzimage.parent)
        if "kernel" in root_fs.extras:
            found["inner/bzImage"] = self.kernel.bzimage.read_bytes()
            archive = initramfs.ensure_initramfs(self.cache, root_fs, self.kernel)
            found["inner/initramfs"] = archive.read_bytes()
        if "selftests" in root_fs.extras:
            found |= selftests.selftest_files(
                selftests.ensure_selftests(self.cache, self.caps.architecture)
            )
        return found

    def _inputs(self, cold: BootSpec, image: Image) -> dict[str, object]:
        """Return everything that a template depends on.

        QEMU's command line alone would not do: a model's expected IDs and groups are not in it.
        """
        nowhere = RunFiles(Path("/run"), "guest", qmp_fd=3, agent_fd=4)
        command = argv(cold.topology, self.caps, self.accelerator.name, cold.files, nowhere)
        return {
            "recipe": RECIPE,
            # Without its architecture, which comes last and is in QEMU's command line.
            "topology": repr(astuple(replace(cold.topology, summary=""))[:-1]),
            "argv": wherever(self.cache.root, command),
            "qemu": self.caps.digest,
            "kernel": self.kernel.digest,
            "image": image.digest,
            "payload": cold.files.payload.parent.name,
            **({"cpu": host_cpu()} if self.accelerator.name == "kvm" else {}),
        }


def wherever(root: Path, command: Sequence[str]) -> list[str]:
    """Return a command line without the cache's path, since caches are copied between hosts."""
    return [word.replace(os.fspath(root), "") for word in command]


def _freeze(cold: BootSpec, scratch: Path, log: Path, title: str) -> None:
    verify_migratable(cold.topology, cold.caps)
    with progress.task(title):
        for left in reversed(range(BOOTS)):
            try:
                _boot_and_save(cold, scratch, log)
                break
            except WrongClock as error:
                if not left:
                    raise
                LOG.warning("%s: %s: %s; it boots again", title, error.what, error.seen)
    shutil.rmtree(log, ignore_errors=True)
    facts = {"topology": cold.topology.name, "kernel": cold.kernel.name}
    (scratch / "template.json").write_text(json.dumps(facts))


def _boot_and_save(cold: BootSpec, scratch: Path, log: Path) -> None:
    ram, state = scratch / "ram", scratch / "state"
    ram.unlink(missing_ok=True)
    booting = replace(cold, files=replace(cold.files, ram=ram))
    name = f"template-{cold.topology.name}-{re.sub('[:/]', '-', cold.kernel.name)}"
    guest = Guest.start(name, booting, log)
    try:
        guest.wait_boot_complete(Deadline.after(SETTLE_TIMEOUT_S * cold.kernel.slowness))
        verify_hardware(guest)
        _check_log(guest)
        (scratch / BOOT_LOG).write_text("\n".join(_about_vfio(guest)) + "\n")
        _warm_up(guest)
        _save(guest, state)
    finally:
        guest.close()


def _about_vfio(guest: Guest) -> list[str]:
    """Return what the kernel said of vfio while the template booted, levels included."""
    lines = map(console.parse_record, guest.kernel_log())
    return [f"{line.level}: {line.text}" for line in lines if ABOUT_VFIO.search(line.text)]


def _check_log(guest: Guest) -> None:
    """Refuse to freeze a guest whose kernel complained while it booted."""
    found = console.complaints(console.read_console(guest.console))
    if found:
        raise BuildError(
            f"the kernel complained while {guest.name} booted: {found[0].headline}",
            tail=found[0].report,
            where=guest.console,
        )


def _warm_up(guest: Guest) -> None:
    """Do once what every scenario does, so that its code and data are in the memory of clones."""
    guest.user("warm-up").run("true")
    for user in guest.users:
        user.kill()
    for pid in guest.ask("reserve", "fork the users in reserve", count=USERS_IN_RESERVE)["pids"]:
        user = VfioUser(guest.channel, pid, "reserve")
        user.close(user.open_path("/dev/vfio/vfio"))
        user.read_file("/proc/sys/kernel/tainted")
    guest.kernel_log()
    guest.ask("mark", "relate the clock to the kernel log")
    guest.renew(Deadline.after(FREEZE_TIMEOUT_S))


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
                hint="set `unmigratable` in the model of the device that QEMU names",
            )
