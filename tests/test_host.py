import os
import tomllib
from pathlib import Path

import pytest

from vfio_lab.errors import HostError
from vfio_lab.util import host
from vfio_lab.util.host import Tool, install_command


@pytest.fixture
def debian(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "os_release", lambda: {"ID": "debian"})


@pytest.mark.usefixtures("debian")
def test_missing_tools_come_with_one_command_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    tools = (
        Tool("sh", "kernel"),
        Tool("no-such-tool", "kernel"),
        Tool("no/such/header.h", "kernel"),
        Tool("not-for-this", "image"),
    )
    monkeypatch.setattr(host, "TOOLS", tools)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(HostError) as failure:
        host.need("kernel")
    assert failure.value.seen == "no no-such-tool, no/such/header.h"
    assert failure.value.hint == (
        "sudo apt-get install --no-install-recommends no-such-tool no/such/header.h"
    )
    assert failure.value.exit_code == 2


@pytest.mark.usefixtures("debian")
def test_tools_of_one_package_are_installed_once() -> None:
    assert install_command(["mksquashfs", "sqfstar"]).endswith("recommends squashfs-tools")


@pytest.mark.parametrize(
    ("release", "start"),
    [
        ({"ID": "fedora"}, "dnf install shadow-utils"),
        ({"ID": "manjaro", "ID_LIKE": "arch"}, "pacman -S --needed shadow"),
        ({"ID": "opensuse-leap", "ID_LIKE": "suse opensuse"}, "zypper install --no-recomm"),
        ({"ID": "linuxmint", "ID_LIKE": "ubuntu debian"}, "apt-get install --no-install"),
        ({"ID": "alpine"}, "install newuidmap, or use the container"),
        ({}, "install newuidmap, or use the container"),
    ],
)
def test_the_command_is_that_of_the_distribution(
    monkeypatch: pytest.MonkeyPatch, release: dict[str, str], start: str
) -> None:
    monkeypatch.setattr(host, "os_release", lambda: release)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert install_command(["newuidmap"]).startswith(start)


def test_every_tool_has_a_package_on_debian_and_no_family_knows_others() -> None:
    hosts = tomllib.loads(host.HOSTS.read_text())
    tools = {tool.name for tool in host.TOOLS}
    families = {
        name: one["packages"] | one["foreign"] for name, one in hosts.items() if "packages" in one
    }
    assert set(families["debian"]) == tools
    assert all(set(packages) <= tools for packages in families.values())


@pytest.mark.usefixtures("debian")
def test_root_needs_no_sudo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert install_command(["flex"]).startswith("apt-get install")


def test_a_full_disk_is_told_before_it_is_hit(tmp_path: Path) -> None:
    folder = tmp_path / "not" / "there" / "yet"
    host.need_space(folder, 1, "a test")
    with pytest.raises(HostError, match="not enough disk space for a test"):
        host.need_space(folder, 1 << 60, "a test")


def test_memory_and_cores_are_those_of_this_machine() -> None:
    total, available = host.memory_bytes()
    assert 0 < available <= total
    assert host.cores() >= 1


def test_sizes_are_written_as_people_read_them() -> None:
    assert host.megabytes(92 << 20) == "92 MB"
    assert host.megabytes(3 << 29) == "1.5 GB"
