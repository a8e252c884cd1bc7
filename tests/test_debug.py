"""The command line for gdb: pure words, and what is loaded in a guest that is not one."""

import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest

from vfio_lab.errors import LabError, UsageError
from vfio_lab.interactive import gdb
from vfio_lab.kernels.packaged import Kernel
from vfio_lab.util.cache import Cache

LOADED = {"vfio_pci_core": "0xffffffffa001a000\n", "igb": "0xffffffffa0100000\n"}


def listdir(_path: str) -> list[str]:
    return [*LOADED, "printk"]


def read_file(path: str) -> str:
    name = path.split("/")[3]
    if name not in LOADED:
        raise LabError("no sections")
    return LOADED[name]


@pytest.fixture
def guest() -> SimpleNamespace:
    return SimpleNamespace(root=SimpleNamespace(listdir=listdir, read_file=read_file))


def test_gdb_is_told_where_modules_are_loaded(guest: SimpleNamespace, tmp_path: Path) -> None:
    for name in ("vfio-pci-core", "printk", "absent"):
        (tmp_path / f"{name}.ko").touch()
    words = shlex.split(gdb.gdb(guest, Path("/run/gdb"), tmp_path))  # type: ignore[arg-type]  # its users only
    assert words[:3] == ["gdb", "-ex", "target remote /run/gdb"]
    symbols = f"add-symbol-file {tmp_path}/vfio-pci-core.ko 0xffffffffa001a000"
    assert words[3:] == ["-ex", symbols, str(tmp_path / "vmlinux")]


def test_without_symbols_gdb_still_connects(guest: SimpleNamespace) -> None:
    words = shlex.split(gdb.gdb(guest, Path("/run/gdb"), None))  # type: ignore[arg-type]  # its users only
    assert words == ["gdb", "-ex", "target remote /run/gdb"]


def test_an_image_that_somebody_else_built_has_no_symbols_here(tmp_path: Path) -> None:
    foreign = Kernel("mine+1", "7.0", (7, 0), tmp_path / "bzImage", tmp_path, tmp_path, "digest")
    assert gdb.symbols_folder(foreign, Cache(tmp_path)) is None


def test_a_core_that_nobody_could_open_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("CONFIG_VFIO=y\n# CONFIG_FW_CFG_SYSFS is not set\n")
    bare = Kernel("bare", "7.0", (7, 0), tmp_path, tmp_path, tmp_path / "config", "digest")
    asked = SimpleNamespace(
        machine=SimpleNamespace(kernel=bare), name="debug"
    )  # has no module to load
    with pytest.raises(UsageError, match=r"(?s)core of kernel bare.*CONFIG_FW_CFG_SYSFS"):
        gdb.pause_on_panic(asked)  # type: ignore[arg-type]  # nothing but its kernel is looked at
