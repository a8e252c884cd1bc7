"""Module files: real ELF files in every packing, and the order in which they need each other."""

from pathlib import Path

import pytest
from support.kernel_files import RELEASE, module

from vfio_lab.errors import UsageError
from vfio_lab.kernels.modfiles import ModuleSet, signed


def order(modules: ModuleSet, *names: str) -> list[str]:
    return [each.name for each in modules.with_needs(names)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A diamond: top needs left and right, both need bottom."""
    module(tmp_path / "kernel/top.ko.zst", ["left", "right"])
    module(tmp_path / "kernel/deep/left.ko.xz", ["bottom-layer"])
    module(tmp_path / "kernel/right.ko.gz", ["bottom-layer"])
    module(tmp_path / "kernel/bottom-layer.ko")
    (tmp_path / "modules.builtin").touch()
    return tmp_path


@pytest.fixture
def modules(folder: Path) -> ModuleSet:
    return ModuleSet.installed(folder, RELEASE)


def test_each_module_comes_after_what_it_needs_however_it_is_compressed(modules):
    found = modules.with_needs(["top"])
    assert [each.name for each in found] == ["bottom_layer", "left", "right", "top"]
    assert {each.data[:4] for each in found} == {b"\x7fELF"}
    places = [str(each.place) for each in found]
    assert places[1:3] == ["kernel/deep/left.ko", "kernel/right.ko"]


def test_names_are_taken_with_dashes_and_underscores_and_once(modules):
    assert order(modules, "bottom-layer", "bottom_layer", "left") == ["bottom_layer", "left"]


def test_what_a_kernel_does_not_have_at_all_is_left_out(modules):
    assert order(modules, "absent", "right") == ["bottom_layer", "right"]


def test_the_lists_of_the_build_are_known_and_no_modules(modules):
    assert [str(place) for place in modules.lists] == ["modules.builtin"]
    assert set(modules.places) == {"top", "left", "right", "bottom_layer"}


def test_a_module_whose_need_is_missing_is_refused(folder):
    (folder / "kernel/bottom-layer.ko").unlink()
    with pytest.raises(UsageError, match="not complete") as refusal:
        order(ModuleSet.installed(folder, RELEASE), "top")
    assert refusal.value.expected == "bottom_layer, which left depends on"


def test_a_module_of_another_release_is_refused(folder):
    with pytest.raises(UsageError, match=r"is not for kernel 6\.1") as refusal:
        order(ModuleSet.installed(folder, "6.1"), "right")
    assert refusal.value.seen == RELEASE


@pytest.mark.parametrize("suffix", ["", ".gz", ".xz", ".zst"])
def test_a_damaged_module_is_refused(tmp_path, suffix):
    (tmp_path / f"vfio.ko{suffix}").write_bytes(b"half of it")
    with pytest.raises(UsageError) as refusal:
        order(ModuleSet.installed(tmp_path, RELEASE), "vfio")
    assert "vfio.ko" in refusal.value.what


def test_a_compression_that_nobody_knows_is_refused(tmp_path):
    (tmp_path / "vfio.ko.rar").write_bytes(b"packed")
    with pytest.raises(UsageError, match="cannot decompress"):
        order(ModuleSet.installed(tmp_path, RELEASE), "vfio")


def test_a_signature_is_known_by_its_end(tmp_path):
    path = module(tmp_path / "vfio.ko")
    assert not signed(path)
    path.write_bytes(path.read_bytes() + b"signature~Module signature appended~\n")
    assert signed(path)
    (tmp_path / "empty.ko").touch()
    assert not signed(tmp_path / "empty.ko")
