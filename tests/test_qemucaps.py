import json
import os
import platform
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from vfio_lab.errors import HostError
from vfio_lab.qemu import capabilities
from vfio_lab.qemu.capabilities import (
    QemuCaps,
    dotted,
    install_hint,
    probe_qemu,
)

DEVICES = ["igb", "nvme", "pcie-root-port"]


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    probe_qemu.cache_clear()
    yield
    probe_qemu.cache_clear()


class FakeQemu:
    """A script on PATH in QEMU's place."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "qemu-system-x86_64"
        self.runs = folder / "runs"

    def runs_script(self, body: str) -> None:
        self.path.write_text(f"#!/bin/sh\ncat >/dev/null\necho run >>{self.runs}\n{body}\n")
        self.path.chmod(0o755)

    def answers(
        self, version: tuple[int, int, int] = (10, 0, 2), devices: Sequence[str] = DEVICES
    ) -> None:
        numbers = dict(zip(("major", "minor", "micro"), version, strict=True))
        lines = [
            {"QMP": {"version": {"qemu": numbers, "package": ""}, "capabilities": ["oob"]}},
            {"return": {}},
            {"return": [{"name": name, "parent": "pci-device"} for name in devices]},
            {"timestamp": {"seconds": 0, "microseconds": 0}, "event": "SHUTDOWN", "data": {}},
            {"return": {}},
        ]
        self.runs_script("\n".join(f"echo '{json.dumps(line)}'" for line in lines))


@pytest.fixture
def fake_qemu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeQemu:
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return FakeQemu(tmp_path)


@pytest.fixture
def release(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def set_to(**fields: str) -> None:
        monkeypatch.setattr(platform, "freedesktop_os_release", lambda: fields)

    return set_to


def test_a_usable_qemu_is_described(fake_qemu: FakeQemu) -> None:
    fake_qemu.answers()
    caps = probe_qemu()
    assert caps.binary == fake_qemu.path
    assert caps.version == (10, 0, 2)
    assert caps.devices == frozenset(DEVICES)


@pytest.mark.parametrize(("version", "able"), [((8, 1, 5), False), ((8, 2, 0), True)])
def test_from_8_2_it_maps_a_file_privately_that_it_cannot_write(
    fake_qemu: FakeQemu, version: tuple[int, int, int], able: bool
) -> None:
    fake_qemu.answers(version=version)
    assert probe_qemu().opens_memory_read_only is able


def test_it_is_asked_once_a_process(fake_qemu: FakeQemu) -> None:
    fake_qemu.answers()
    assert probe_qemu() is probe_qemu()
    assert fake_qemu.runs.read_text() == "run\n"


def test_the_digest_follows_the_binary(fake_qemu: FakeQemu) -> None:
    fake_qemu.answers()
    before = probe_qemu().digest
    probe_qemu.cache_clear()
    assert probe_qemu().digest == before
    fake_qemu.answers(version=(10, 0, 3))
    probe_qemu.cache_clear()
    assert probe_qemu().digest != before


def test_no_qemu_at_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HostError, match="not on PATH") as refused:
        probe_qemu()
    assert refused.value.exit_code == 2
    assert refused.value.hint


def test_a_qemu_that_is_too_old(fake_qemu: FakeQemu, release: Callable[..., None]) -> None:
    release(ID="debian", VERSION_CODENAME="bookworm")
    fake_qemu.answers(version=(7, 2, 22), devices=["e1000"])
    with pytest.raises(HostError, match="too old") as refused:
        probe_qemu()
    assert "QEMU 7.2.22" in str(refused.value)
    assert "apt-get install -t bookworm-backports " in str(refused.value)


def test_a_qemu_without_igb(fake_qemu: FakeQemu) -> None:
    fake_qemu.answers(devices=["e1000e"])
    with pytest.raises(HostError, match="igb in the output of"):
        probe_qemu()


@pytest.mark.parametrize(
    "body",
    ["exit 3", "echo nonsense", "echo '[]'", "echo '{}'", "echo '{\"QMP\": {}}'", "true"],
    ids=["fails", "no JSON", "no object", "no greeting", "no version", "silent"],
)
def test_what_does_not_answer_like_a_qemu(fake_qemu: FakeQemu, body: str) -> None:
    fake_qemu.runs_script(body)
    with pytest.raises(HostError, match=r"does not (run|answer like a QEMU)"):
        probe_qemu()


def test_a_qemu_that_cannot_load_shows_its_last_words(fake_qemu: FakeQemu) -> None:
    fake_qemu.runs_script("echo 'libfdt.so.1: cannot open' >&2; exit 127")
    with pytest.raises(HostError, match=r"(?s)exit code 127.*libfdt.so.1: cannot open"):
        probe_qemu()


def test_a_qemu_that_hangs_is_given_up(
    fake_qemu: FakeQemu, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capabilities, "ANSWER_TIMEOUT_S", 0.1)
    fake_qemu.runs_script("exec sleep 5")
    with pytest.raises(HostError, match="timed out"):
        probe_qemu()


def test_missing_devices_are_named() -> None:
    caps = QemuCaps(Path("/usr/bin/qemu"), (8, 2, 0), frozenset({"igb"}), "digest")
    caps.require({"igb"}, "topology igb")
    assert caps.missing({"igb", "nvme", "e1000"}) == ["e1000", "nvme"]
    with pytest.raises(HostError, match="e1000, nvme") as refused:
        caps.require({"igb", "nvme", "e1000"}, "topology zoo")
    assert refused.value.what == "topology zoo needs devices that this QEMU lacks"


@pytest.mark.parametrize(
    ("fields", "command"),
    [
        (
            {"ID": "debian", "VERSION_CODENAME": "bookworm"},
            "apt-get install -t bookworm-backports --no-install-recommends qemu-system-x86 (./boot",
        ),
        (
            {"ID": "debian", "VERSION_CODENAME": "trixie"},
            "apt-get install --no-install-recommends qemu-system-x86 (8.0 or newer",
        ),
        (
            {"ID": "ubuntu", "ID_LIKE": "debian", "VERSION_CODENAME": "noble"},
            "apt-get install --no-install-recommends qemu-system-x86 (8.0 or newer",
        ),
        ({"ID": "rocky", "ID_LIKE": "rhel fedora"}, "dnf install qemu-system-x86-core (8.0"),
        ({"ID": "haiku"}, "install qemu-system-x86_64, or use the container"),
    ],
    ids=["Debian 12", "Debian 13", "Ubuntu", "kin of Fedora", "another"],
)
def test_the_hint_is_a_command_for_this_host(
    release: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    fields: dict[str, str],
    command: str,
) -> None:
    release(**fields)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert install_hint().startswith(command)


def test_the_hint_on_a_host_that_does_not_say_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown() -> dict[str, str]:
        raise OSError

    monkeypatch.setattr(platform, "freedesktop_os_release", unknown)
    assert install_hint().startswith("install qemu-system-x86_64, or use the container")


def test_versions_are_written_with_dots() -> None:
    assert dotted((10, 0, 2)) == "10.0.2"
