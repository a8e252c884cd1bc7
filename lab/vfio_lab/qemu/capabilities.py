"""The capabilities of the host's QEMU, which is asked once."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from vfio_lab.arch import X86_64, Architecture
from vfio_lab.errors import HostError
from vfio_lab.util import host

OLDEST = (8, 0, 0)
# Of older ones 8.2.2 was tried. A reset of its igb, as at each open of a PF, takes away the VFs,
# and VF Enable stays set, so that the kernel does not notice.
PROVEN = (10, 0, 0)
READ_ONLY_MEMORY = (8, 2, 0)
ANSWER_TIMEOUT_S = 20.0
# Debian releases whose QEMU is too old; their backports have a newer version.
NEEDS_BACKPORTS = frozenset({"bullseye", "bookworm"})

CONFIG_WRITES = "pci_cfg_write"  # the trace event
# Devices some properties of which have other names in other versions of QEMU.
RENAMING = ("intel-iommu", "amd-iommu")
EXPERIMENTAL = "x-"


def _properties_of(devices: Iterable[str]) -> list[dict[str, object]]:
    asked = "device-list-properties"
    return [{"execute": asked, "arguments": {"typename": name}, "id": name} for name in devices]


_QUESTIONS: tuple[dict[str, object], ...] = (
    {"execute": "qmp_capabilities"},
    {"execute": "qom-list-types", "arguments": {"implements": "device", "abstract": False}},
    {"execute": "trace-event-get-state", "arguments": {"name": CONFIG_WRITES}},
    *_properties_of(RENAMING),
    {"execute": "quit"},
)


@dataclass(frozen=True)
class QemuCaps:
    """A QEMU that the lab can use.

    Args:
        binary: the executable.
        version: major, minor, micro.
        devices: the names of its device types.
        digest: a digest that changes with the binary.
        architecture: the architecture of its guests.
        traces: whether it can log writes to configuration space.
        properties: those of the devices in RENAMING, each `device.property`.
    """

    binary: Path
    version: tuple[int, int, int]
    devices: frozenset[str]
    digest: str
    architecture: Architecture = X86_64
    traces: bool = False
    properties: frozenset[str] = frozenset()

    def __repr__(self) -> str:
        """Return `QemuCaps(10.0.2)`."""
        return f"{type(self).__name__}({dotted(self.version)})"

    @property
    def opens_memory_read_only(self) -> bool:
        """Whether it can map a file privately that it cannot write (`rom=off`)."""
        return self.version >= READ_ONLY_MEMORY

    @property
    def proven(self) -> bool:
        """Whether VFs survive the reset of their PF, as far as this was tried."""
        return self.version >= PROVEN

    def missing(self, devices: Collection[str]) -> list[str]:
        """Return the names in `devices` that this QEMU lacks, sorted."""
        return sorted(set(devices) - self.devices)

    def require(self, devices: Collection[str], what: str) -> None:
        """Check that this QEMU has all `devices` that `what` needs.

        Raises:
            HostError: some are missing; the error names them.
        """
        if missing := self.missing(devices):
            raise HostError(
                f"{what} needs devices that this QEMU lacks",
                expected=f"{', '.join(missing)} in the output of `{self.binary.name} -device help`",
                seen=f"QEMU {dotted(self.version)} at {self.binary}",
                hint=install_hint(self.architecture),
            )

    def spelled(self, device: str, settings: Iterable[str]) -> list[str]:
        """Return properties of a device as this QEMU spells them: with a prefix, or without.

        Args:
            device: QEMU's name for it.
            settings: properties, each `name=value`.

        Raises:
            HostError: it has no such property.
        """
        return [self._spelled(device, setting) for setting in settings]

    def _spelled(self, device: str, setting: str) -> str:
        if not any(name.startswith(f"{device}.") for name in self.properties):
            return setting  # it was not asked for them
        plain = setting.removeprefix(EXPERIMENTAL)
        for word in (plain, EXPERIMENTAL + plain):
            if f"{device}.{word.partition('=')[0]}" in self.properties:
                return word
        raise HostError(
            f"the {device} of this QEMU has no property {plain.partition('=')[0]!r}",
            expected=f"it in the output of `{self.binary.name} -device {device},help`",
            seen=f"QEMU {dotted(self.version)} at {self.binary}",
            hint="give the path of a newer QEMU: --lab-qemu PATH",
        )


@cache
def probe_qemu(binary: str = "", architecture: Architecture = X86_64) -> QemuCaps:
    """Return the capabilities of a QEMU; it is asked once per process.

    Args:
        binary: the executable, by default the architecture's on the PATH.
        architecture: the architecture of its guests.

    Raises:
        HostError: there is no QEMU, it does not run, it is too old, or it has no igb.
    """
    binary = binary or architecture.qemu
    found = shutil.which(binary)
    hint = install_hint(architecture)
    if found is None:
        raise HostError(f"{binary} is not on PATH", seen="no such command", hint=hint)
    path = Path(found)
    replies = list(_ask(path))
    try:
        version = _version(replies[0])
        devices = frozenset(kind["name"] for kind in replies[2]["return"])
        properties = frozenset(
            f"{reply['id']}.{each['name']}"
            for reply in replies
            if "id" in reply
            for each in reply.get("return", ())
        )
    except (IndexError, KeyError, TypeError) as error:
        raise HostError(
            f"{path} does not answer like a QEMU",
            expected="a QMP greeting and a list of device types",
            seen=json.dumps(replies)[:500],
            hint=hint,
        ) from error
    traces = any(map(_traces, replies[3:]))
    facts = (path, version, devices, _digest(path, version), architecture)
    return _usable(QemuCaps(*facts, traces=traces, properties=properties))


@cache
def saved_devices(binary: Path) -> frozenset[str]:
    """Return the names of the devices whose state a QEMU saves.

    Args:
        binary: the executable.

    Raises:
        HostError: it does not answer.

    Source: QEMU migration/savevm.c, dump_vmstate_json_to_file().
    """
    command = [str(binary), "-nodefaults", "-machine", "none", "-dump-vmstate", "/dev/stdout"]
    try:
        answer = subprocess.run(command, check=True, capture_output=True, timeout=ANSWER_TIMEOUT_S)
        names = json.loads(answer.stdout).keys()
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise HostError(
            f"{binary} does not say which devices it saves",
            expected="JSON from -dump-vmstate",
            seen=str(error),
            hint=install_hint(),
        ) from error
    # A virtio device is saved by the device behind its PCI function.
    behind = (f"{name.removesuffix('-device')}-pci" for name in names if name.endswith("-device"))
    return frozenset(names) | frozenset(behind)


def dotted(version: Iterable[int]) -> str:
    """Return a version in dotted form."""
    return ".".join(str(part) for part in version)


def install_hint(architecture: Architecture = X86_64, tools: Iterable[str] = ()) -> str:
    """Return the exact command that installs a usable QEMU on this host.

    Args:
        architecture: the architecture of its guests.
        tools: what to install, by default the QEMU alone.
    """
    codename = host.os_release().get("VERSION_CODENAME", "")
    command = host.install_command(tools or [architecture.qemu])
    if codename in NEEDS_BACKPORTS:
        command = command.replace(" install ", f" install -t {codename}-backports ")
        return f"{command} (./bootstrap adds that suite and installs it)"
    return f"{command} ({dotted(OLDEST[:2])} or newer, with the igb device)"


def _usable(caps: QemuCaps) -> QemuCaps:
    if caps.version < OLDEST:
        raise HostError(
            f"{caps.binary} is too old",
            expected=f"QEMU {dotted(OLDEST[:2])} or newer, the first with igb",
            seen=f"QEMU {dotted(caps.version)}",
            hint=install_hint(),
        )
    caps.require({"igb"}, "the lab")
    if caps.architecture != X86_64:
        caps.require({caps.architecture.serial}, f"a guest of {caps.architecture.name}")
    return caps


def _ask(binary: Path) -> Iterable[dict[str, Any]]:
    # fmt: off
    command = [
        str(binary),
        "-nodefaults",
        "-no-user-config",
        "-machine", "none",
        "-display", "none",
        "-qmp", "stdio",
    ]
    # fmt: on
    questions = "".join(json.dumps(question) + "\n" for question in _QUESTIONS)
    try:
        answer = subprocess.run(
            command,
            check=False,
            input=questions,
            capture_output=True,
            text=True,
            timeout=ANSWER_TIMEOUT_S,
        )
        lines = [json.loads(line) for line in answer.stdout.splitlines()]
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise HostError(f"{binary} does not run", seen=str(error), hint=install_hint()) from error
    if answer.returncode != 0:
        raise HostError(
            f"{binary} does not run",
            seen=f"exit code {answer.returncode}",
            tail=answer.stderr,
            hint=install_hint(),
        )
    return [line for line in lines if "event" not in line]


def _traces(reply: dict[str, Any]) -> bool:
    """Return whether an answer names the trace event; a QEMU without it answers with an error."""
    events = reply.get("return")
    return isinstance(events, list) and events[:1] != [] and events[0]["name"] == CONFIG_WRITES


def _version(greeting: dict[str, Any]) -> tuple[int, int, int]:
    version = greeting["QMP"]["version"]["qemu"]
    return version["major"], version["minor"], version["micro"]


def _digest(binary: Path, version: tuple[int, int, int]) -> str:
    stat = binary.stat()
    facts = f"{stat.st_size} {stat.st_mtime_ns} {dotted(version)}"
    return hashlib.sha256(facts.encode()).hexdigest()
