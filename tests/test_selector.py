"""Bringing a kernel: what is named is found, what is wrong with it is said."""

from pathlib import Path

import pytest
from support.kernel_files import BUILT_IN, RELEASE, bzimage, module, tool

from vfio_lab.errors import BuildError, UsageError
from vfio_lab.kernels import selector
from vfio_lab.util.cache import Cache


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache").open()


@pytest.fixture
def built(tmp_path: Path) -> Path:
    """A tree in which somebody built a kernel."""
    tree = tmp_path / "linux"
    bzimage(tree / selector.IMAGE)
    for name in ("Makefile", "Kconfig", "modules.builtin"):
        (tree / name).touch()
    (tree / ".config").write_text(BUILT_IN)
    (tree / "modules.order").write_text("drivers/vfio/vfio.o\n")
    module(tree / "drivers/vfio/vfio.ko")
    return tree


def listed(kernel: selector.Kernel) -> str:
    return tool("unsquashfs", "-l", kernel.modules)


def test_a_built_tree_is_taken_as_it_was_built(built: Path, cache: Cache) -> None:
    kernel = selector.ensure_kernel(str(built), cache)
    assert (kernel.release, kernel.version) == (RELEASE, (6, 18, 2))
    assert kernel.name.startswith("linux+")
    assert kernel.option("VFIO") == "m"
    assert f"{RELEASE}/kernel/drivers/vfio/vfio.ko" in listed(kernel)
    assert not kernel.lasting
    assert selector.ensure_kernel(str(built / selector.IMAGE), cache) == kernel
    assert selector.ensure_kernel(str(kernel.bzimage.parent), cache) == kernel


def test_the_older_list_of_modules_is_understood(built: Path, cache: Cache) -> None:
    (built / "modules.order").write_text("kernel/drivers/vfio/vfio.ko\n")
    assert "kernel/drivers/vfio/vfio.ko" in listed(selector.ensure_kernel(str(built), cache))


@pytest.mark.parametrize("place", ["lib/modules", "modules/lib/modules", "modules", ""])
def test_an_image_has_its_modules_beside_it(tmp_path: Path, cache: Cache, place: str) -> None:
    image = bzimage(tmp_path / "mine/bzImage")
    (tmp_path / "mine/config").write_text(BUILT_IN)
    folder = tmp_path / "mine" / place / RELEASE if place else tmp_path / "mine/modules"
    module(folder / "extra/vfio.ko")
    kernel = selector.ensure_kernel(str(image), cache)
    assert f"{RELEASE}/extra/vfio.ko" in listed(kernel)
    assert selector.ensure_kernel(str(image.parent), cache) == kernel


def test_what_is_missing_is_named(built: Path, tmp_path: Path, cache: Cache) -> None:
    (built / "drivers/vfio/vfio.ko").unlink()
    with pytest.raises(UsageError, match="was not built to the end") as refusal:
        selector.ensure_kernel(str(built), cache)
    assert refusal.value.seen == "no drivers/vfio/vfio.ko"
    (built / "modules.order").unlink()
    with pytest.raises(UsageError, match="was not built to the end"):
        selector.ensure_kernel(str(built), cache)
    image = bzimage(tmp_path / "bare/bzImage")
    with pytest.raises(UsageError, match="has no configuration"):
        selector.ensure_kernel(str(image), cache)
    (tmp_path / "bare/config").write_text(BUILT_IN)
    with pytest.raises(UsageError, match="has no modules"):
        selector.ensure_kernel(str(image), cache)


def test_what_is_no_kernel_is_refused(tmp_path: Path, cache: Cache) -> None:
    text = tmp_path / "text"
    text.write_text("no kernel")
    for what, complaint in ((text, "is no bzImage"), (tmp_path, "is no kernel")):
        with pytest.raises(UsageError, match=complaint):
            selector.ensure_kernel(str(what), cache)
    with pytest.raises(UsageError, match=r"there is no kernel '9\.9'") as refusal:
        selector.ensure_kernel("9.9", cache)
    assert "7.3" in (refusal.value.expected or "")
    for name in ("Makefile", "Kconfig"):
        (tmp_path / name).touch()
    with pytest.raises(BuildError, match="is no kernel source"):
        selector.ensure_kernel(str(tmp_path), cache)
