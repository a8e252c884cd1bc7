"""Branches of a built tree, and what of a brought tree has to be built: files, no compiler."""

import os
from pathlib import Path

import pytest

from vfio_lab.kernels import export, ktree, packaged
from vfio_lab.kernels.kbuild import OUT, Bench, Job
from vfio_lab.util.cache import Cache

JOB = Job("7.3", (), (), 9)
SOURCES = ("Makefile", "tools/objtool/check.c", "drivers/vfio/group.c", "drivers/pci/pci.c")
OBJECT, GENERATED = "drivers/vfio/group.o", "include/generated/autoconf.h"
TOOL = "tools/objtool/.check.o.cmd"
IMAGE = "vmlinux"


@pytest.fixture
def tree(tmp_path: Path) -> ktree.Tree:
    bench = Bench(JOB, tmp_path / "base", Cache(tmp_path / "cache"))
    texts = dict.fromkeys((OBJECT, GENERATED, IMAGE), "made")
    texts[TOOL] = f"cmd := gcc -o {bench.out}/check.o {bench.tree}/check.c"
    for root, names in ((bench.tree, dict.fromkeys(SOURCES, "source")), (bench.out, texts)):
        for name, text in names.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
    return ktree.Tree("7.3", bench)


def test_a_narrow_branch_has_files_of_its_own_where_they_change(tree: ktree.Tree) -> None:
    with ktree.branch(tree, "trial") as made:
        assert (made.tree / "drivers/pci").is_symlink()
        assert not (made.tree / "drivers/vfio").is_symlink()
        for name in (OBJECT, GENERATED):
            (made.out / name).write_text("written in place")
            assert (tree.bench.out / name).read_text() == "made"
        assert not (made.out / IMAGE).exists()
        # make follows the link to the tools' sources, and looks for their objects here.
        assert (made.out / TOOL).read_text() == (
            f"cmd := gcc -o {made.out}/check.o {tree.bench.tree}/check.c"
        )
    assert not made.work.exists()
    assert (tree.bench.tree / "drivers/vfio/group.c").read_text() == "source"


def test_a_whole_branch_can_build_an_image(tree: ktree.Tree) -> None:
    with ktree.branch(tree, "trial", [ktree.WHOLE]) as made:
        assert not (made.tree / "drivers/pci").is_symlink()
        assert (made.out / IMAGE).exists()
        assert (made.out / TOOL).read_text() == (
            f"cmd := gcc -o {made.out}/check.o {made.tree}/check.c"
        )
        assert not (made.tree / OUT / OUT).exists()


def test_a_failure_leaves_no_branch_and_a_killed_run_none_for_long(tree: ktree.Tree) -> None:
    with pytest.raises(KeyboardInterrupt), ktree.branch(tree, "trial") as made:
        raise KeyboardInterrupt
    assert not made.work.exists()
    left = made.work.with_name(f".{2**22 + 1}-killed")
    left.mkdir()
    with ktree.branch(tree, "trial") as made:
        assert {path.name for path in made.work.parent.iterdir()} == {made.work.name}
        assert made.work.name.startswith(f".{os.getpid()}-")


def test_modules_are_built_with_those_they_need(tree: ktree.Tree) -> None:
    out = tree.bench.out
    order = ("drivers/iommu/iommufd.o", "drivers/vfio/vfio.o", "drivers/net/igb.o")
    (out / "modules.order").write_text("".join(f"{name}\n" for name in order))
    for name, depends in (("drivers/vfio/vfio", "iommufd"), ("drivers/iommu/iommufd", "")):
        path = out / f"{name}.mod.c"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'x\nMODULE_INFO(depends, "{depends}");\n')
    assert tree.modules() == ["drivers/vfio/vfio.ko", "drivers/iommu/iommufd.ko"]


@pytest.mark.parametrize(
    ("base", "pending", "suffice"),
    [
        ("key", ["drivers/vfio/group.c"], True),
        ("key", [], True),
        ("key", ["drivers/vfio/group.c", "include/linux/vfio.h"], False),
        ("key", ["drivers/vfio-other/x.c"], False),
        ("", ["drivers/vfio/group.c"], False),
    ],
)
def test_modules_alone_are_built_only_beside_an_image(
    base: str, pending: list[str], suffice: bool
) -> None:
    assert export.TreeState("tree", base=base, pending=pending).modules_suffice is suffice


def test_the_sources_of_a_packaged_kernel_are_found_once_they_are_built(tmp_path: Path) -> None:
    spec, sha256 = packaged.kernel_catalogue().spec("7.3"), "0" * 64
    cache = Cache(tmp_path / "cache")
    folder = cache.path(ktree.KIND, spec.key(sha256))
    folder.mkdir(parents=True)
    assert ktree.kept_tree(spec, sha256, cache) is None
    (folder / ktree.READY).touch()
    assert ktree.kept_tree(spec, sha256, cache) == folder / "src"
