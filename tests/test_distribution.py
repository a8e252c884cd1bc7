"""Distributions' kernels by name: an archive made here, asked by a stand-in for apt."""

import shutil
from pathlib import Path

import pytest
from support.kernel_files import RELEASE, deb, installed, tool

from vfio_lab.errors import HostError
from vfio_lab.kernels import distribution, ksource, selector
from vfio_lab.util import apt
from vfio_lab.util.cache import Cache

NAME = "debian/trixie"
CATALOGUE = f"""
[kernels."{NAME}"]
about = "small"
package = "linux-image-amd64"
suites = ["trixie"]

[follow]
pattern = 'linux-(image|binary|modules|base)-\\d.*'
"""


class Archive:
    """What a session of apt answers, from a folder of packages."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[str] = []
        self.version = "6.18.2-1"

    def update(self, suite: str) -> bool:
        self.asked.append(f"update {suite}")
        return True

    def candidate(self, name: str, suite: str) -> apt.Package | None:
        found = list(self.folder.glob(f"{name}_*.deb"))
        digest = f"{name}{self.version}".ljust(64, "0")
        size = found[0].stat().st_size if found else 0
        where = f"{suite}-security"
        return apt.Package(name, self.version, where, digest, size) if found else None

    def names(self, _pattern: str) -> list[str]:
        return []

    def needs(self, _name: str) -> list[str]:
        return ["kmod", f"linux-image-{RELEASE}", f"linux-modules-{RELEASE}", "linux-base"]

    def download(self, package: apt.Package, folder: Path, on_percent=None) -> Path:
        self.asked.append(f"download {package.name}")
        on_percent(100.0)
        return Path(shutil.copy(next(self.folder.glob(f"{package.name}_*.deb")), folder))


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Archive:
    """An archive whose metapackage brings an image and its modules in packages of their own."""
    root = installed(tmp_path / "root")
    modules = tmp_path / "modules"
    modules.mkdir()
    (root / "lib").rename(modules / "lib")
    folder = tmp_path / "archive"
    folder.mkdir()
    deb(folder / f"linux-image-{RELEASE}_1_amd64.deb", root)
    deb(folder / f"linux-modules-{RELEASE}_1_amd64.deb", modules)
    (tmp_path / "empty").mkdir()
    deb(folder / "linux-image-amd64_1_amd64.deb", tmp_path / "empty")
    made = Archive(folder)

    class Session:
        def __enter__(self) -> Archive:
            return made

        def __exit__(self, *_error: object) -> None:
            pass

    monkeypatch.setattr(ksource.apt, "session", lambda _cache, **_options: Session())
    return made


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    """An empty cache, and a catalogue of one distribution."""
    catalogue = tmp_path / "distributions.toml"
    catalogue.write_text(CATALOGUE)
    read = distribution.distribution_catalogue
    monkeypatch.setattr(distribution, "distribution_catalogue", lambda: read(catalogue))
    return Cache(tmp_path / "cache").open()


def test_a_distributions_kernel_is_fetched_and_packed(archive, cache):
    assert selector.find_kernel(NAME, cache) is None
    kernel = selector.ensure_kernel(NAME, cache)
    assert (kernel.name, kernel.release, kernel.lasting) == (NAME, RELEASE, True)
    assert kernel.initramfs is not None
    assert "vfio-pci.ko" in tool("unsquashfs", "-l", kernel.modules)
    assert sorted(archive.asked) == [
        f"download linux-image-{RELEASE}",
        "download linux-image-amd64",
        f"download linux-modules-{RELEASE}",
        "update trixie",
    ]
    assert {path.name for path in kernel.bzimage.parent.iterdir()} == {
        "bzImage",
        "config",
        "early.cpio",
        "kernel.json",
        "manifest.json",
        "modules.squashfs",
        "vmlinux",
    }


def test_what_is_cached_is_fetched_from_nowhere(archive, cache):
    kernel = selector.ensure_kernel(NAME, cache)
    archive.asked.clear()
    assert selector.ensure_kernel(NAME, cache) == selector.find_kernel(NAME, cache) == kernel
    assert selector.remove_named_kernel(NAME, cache) == 1
    assert selector.find_kernel(NAME, cache) is None
    assert selector.ensure_kernel(NAME, cache) == kernel  # its packages were kept
    assert archive.asked == []


def test_a_pinned_kernel_stays_until_it_is_updated(archive, cache):
    kernel = selector.ensure_kernel(NAME, cache)
    source = distribution.distribution_catalogue()[NAME].source
    archive.version = "6.18.3-1"
    assert selector.ensure_kernel(NAME, cache) == kernel
    ksource.fetch(cache, source)
    assert ksource.pinned(cache, source).version == "6.18.3-1"
    assert selector.find_kernel(NAME, cache) is None
    assert len(cache.keys(ksource.KIND)) == 1
    ((name, package, since),) = [one for one in selector.pinned_kernels(cache) if one[0] == NAME]
    assert (name, package.version, since > 0) == (NAME, "6.18.3-1", True)


def test_a_damaged_product_is_packed_again_without_the_archive(archive, cache):
    kernel = selector.ensure_kernel(NAME, cache)
    kernel.modules.write_bytes(b"half")
    archive.asked.clear()
    assert "vfio-pci.ko" in tool("unsquashfs", "-l", selector.ensure_kernel(NAME, cache).modules)
    assert archive.asked == []


def test_an_archive_in_the_middle_of_an_update_is_told(archive, cache):
    next(archive.folder.glob("linux-modules-*")).unlink()
    with pytest.raises(HostError, match="is not complete") as refusal:
        selector.ensure_kernel(NAME, cache)
    assert refusal.value.expected == f"linux-modules-{RELEASE} beside it"
    assert cache.keys(ksource.KIND) == cache.keys(distribution.KIND) == []


def test_an_interrupted_unpacking_leaves_nothing(archive, cache, monkeypatch):
    del archive

    def interrupt(*_args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(distribution.foreign, "pack", interrupt)
    with pytest.raises(KeyboardInterrupt):
        selector.ensure_kernel(NAME, cache)
    assert list((cache.root / distribution.KIND).iterdir()) == []


def test_the_catalogue_names_suites_of_debian():
    for one in distribution.distribution_catalogue().values():
        assert one.name.startswith("debian/")
        assert {suite.partition("-")[0] for suite in one.source.suites} <= apt.SUITES
