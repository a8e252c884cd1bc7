"""Drivers of the lab's own: they are built with a kernel's samples, and are part of its key."""

from pathlib import Path

import pytest

from vfio_lab.errors import UsageError
from vfio_lab.kernels.packaged import Spec, kernel_catalogue
from vfio_lab.kernels.unpack import SAMPLES, add_drivers

TOML = """
default = "7.3"
fragments = ["base"]
[flavours.mocks]
about = "devices of software"
fragment = "mocks more"
drivers = "pages"
[kernels."7.3"]
about = "new"
package = "linux-source-7.3"
suites = ["sid"]
steps = { plain = 2 }
"""


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A catalogue with a flavour that has a driver."""
    (tmp_path / "config").mkdir()
    (tmp_path / "drivers").mkdir()
    (tmp_path / "kernels.toml").write_text(TOML)
    (tmp_path / "config/base.config").write_text("CONFIG_VFIO=m # the core\n")
    (tmp_path / "config/mocks.config").write_text("CONFIG_VFIO_MDEV=m # mediated devices\n")
    (tmp_path / "config/more.config").write_text("CONFIG_GCOV=y # counts\n")
    (tmp_path / "drivers/pages.c").write_text("int a;\n")
    return tmp_path


def spec(images: Path, name: str) -> Spec:
    return kernel_catalogue(images).spec(name)


def test_a_driver_is_built_beside_the_samples(tmp_path: Path, images: Path) -> None:
    samples = tmp_path / "tree" / SAMPLES
    samples.mkdir(parents=True)
    (samples / "Makefile").write_text("obj-m += mtty.o\n")
    add_drivers(tmp_path / "tree", spec(images, "7.3:mocks").job.drivers)
    assert (samples / "pages.c").read_text() == "int a;\n"
    assert (samples / "Makefile").read_text().splitlines() == [
        "obj-m += mtty.o",
        "obj-$(CONFIG_VFIO_MDEV) += pages.o",
    ]


def test_a_flavour_has_the_options_of_each_fragment(images: Path) -> None:
    asked = {one.name for one in spec(images, "7.3:mocks").asked}
    assert asked == {"VFIO", "VFIO_MDEV", "GCOV"}


def test_another_driver_is_another_kernel_of_its_flavour(images: Path) -> None:
    names = ("7.3", "7.3:mocks")
    before = [spec(images, name).key("sum") for name in names]
    (images / "drivers/pages.c").write_text("int b;\n")
    after = [spec(images, name).key("sum") for name in names]
    assert before[0] == after[0]
    assert before[1] != after[1]
    assert "drivers" not in spec(images, "7.3").inputs("sum")


def test_a_driver_that_is_not_there_is_named(images: Path) -> None:
    (images / "drivers/pages.c").unlink()
    with pytest.raises(UsageError, match="there is no driver 'pages'"):
        kernel_catalogue(images)
