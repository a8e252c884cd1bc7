import os
from pathlib import Path

import pytest

from vfio_lab.errors import HostError
from vfio_lab.util import host
from vfio_lab.util.host import Tool, install_command


def test_missing_tools_come_with_one_command_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    tools = (
        Tool("sh", "dash", "kernel"),
        Tool("no-such-tool", "b-package", "kernel"),
        Tool("no/such/header.h", "a-package", "kernel"),
        Tool("no-other-tool", "a-package", "kernel"),
        Tool("not-for-this", "c-package", "image"),
    )
    monkeypatch.setattr(host, "TOOLS", tools)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(HostError) as failure:
        host.need("kernel")
    assert failure.value.seen == "no no-such-tool, no/such/header.h, no-other-tool"
    assert failure.value.hint == (
        "sudo apt-get install --no-install-recommends a-package b-package"
    )
    assert failure.value.exit_code == 2


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
