"""Kernels as distributions ship them: folders and packages made here, read by the real tools."""

import os
import shutil
from pathlib import Path

import pytest
from support.kernel_files import EARLY, MODULAR, RELEASE, bzimage, deb, installed, module, tool

from vfio_lab.errors import HostError, LabError, UsageError
from vfio_lab.kernels import installed as installations
from vfio_lab.kernels import packagefile, selector
from vfio_lab.util.cache import Cache


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache").open()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root file system with a kernel in it."""
    return installed(tmp_path / "root")


def packed(kernel: selector.Kernel) -> set[str]:
    lines = tool("unsquashfs", "-l", kernel.modules).splitlines()
    return {Path(line).name for line in lines if line.endswith(".ko")}


def refused(what: object, cache: Cache) -> LabError:
    """Return why a kernel is refused; nothing of it may stay."""
    with pytest.raises(LabError) as refusal:
        selector.ensure_kernel(str(what), cache)
    assert refusal.value.exit_code == 2
    assert "\n" not in refusal.value.what
    left = {path for path in cache.root.rglob("*") if path.is_file()}
    assert {
        path for path in left if "logs" not in path.parts and "locks" not in path.parts
    } == set()
    return refusal.value


def test_a_modular_kernel_gets_an_initramfs_and_a_choice_of_its_modules(root, cache):
    kernel = selector.ensure_kernel(str(root), cache)
    assert (kernel.release, kernel.version, kernel.lasting) == (RELEASE, (6, 18, 2), False)
    assert packed(kernel) == {"vfio.ko", "vfio-pci.ko"}
    assert kernel.initramfs is not None
    assert kernel.vmlinux is not None
    for name in EARLY:
        assert f"lib/{name}.ko".encode() in kernel.initramfs.read_bytes()
    assert selector.ensure_kernel(str(kernel.bzimage.parent), cache) == kernel


@pytest.mark.parametrize("suffix", [".ko", ".ko.gz", ".ko.zst"])
def test_modules_may_be_compressed_in_any_way(tmp_path, cache, suffix):
    kernel = selector.ensure_kernel(str(installed(tmp_path / "root", suffix=suffix)), cache)
    assert packed(kernel) == {"vfio.ko", "vfio-pci.ko"}


def test_an_image_in_boot_stands_for_its_kernel(root, cache):
    whole = selector.ensure_kernel(str(root), cache)
    one = selector.ensure_kernel(str(root / f"boot/vmlinuz-{RELEASE}"), cache)
    assert one.name.startswith(f"vmlinuz-{RELEASE}+")
    assert packed(one) == packed(whole)


def test_all_files_may_lie_in_the_folder_of_the_modules(root, cache):
    folder = root / "usr/lib/modules" / RELEASE
    shutil.move(root / "lib/modules", folder.parent)
    (root / f"boot/vmlinuz-{RELEASE}").rename(folder / "vmlinuz")
    (root / f"boot/config-{RELEASE}").rename(folder / "config")
    assert packed(selector.ensure_kernel(str(root), cache)) == {"vfio.ko", "vfio-pci.ko"}
    assert packed(selector.ensure_kernel(str(folder / "vmlinuz"), cache)) == {
        "vfio.ko",
        "vfio-pci.ko",
    }


def test_a_signed_module_stays_signed(root, cache):
    path = root / "lib/modules" / RELEASE / "kernel/vfio.ko.xz"
    path.unlink()
    signed = module(path.with_name("vfio.ko"))
    signed.write_bytes(signed.read_bytes() + b"~Module signature appended~\n")
    kernel = selector.ensure_kernel(str(root), cache)
    name = f"{RELEASE}/kernel/vfio.ko"
    assert "~Module signature appended~" in tool(
        "sh", "-c", f"unsquashfs -cat {kernel.modules} {name} | strings -n 20"
    )


def test_a_package_is_taken_as_it_is(root, tmp_path, cache):
    package = deb(tmp_path / f"linux-image-{RELEASE}_1_amd64.deb", root)
    kernel = selector.ensure_kernel(str(package), cache)
    assert kernel.name.startswith(f"linux-image-{RELEASE}_1_amd64.deb+")
    assert packed(kernel) == {"vfio.ko", "vfio-pci.ko"}
    assert not list(cache.root.glob(".unpacked*"))


def test_the_parts_of_a_split_package_are_found_beside_it(root, tmp_path, cache):
    modules = tmp_path / "modules"
    (modules / "lib").mkdir(parents=True)
    (root / "lib/modules").rename(modules / "lib/modules")
    deb(tmp_path / "linux-modules-6.18_1_amd64.deb", modules, "linux-modules")
    deb(tmp_path / "linux-headers-6.18_1_amd64.deb", modules, "linux-headers")
    package = deb(tmp_path / "linux-binary-6.18_1_amd64.deb", root, "linux-binary")
    assert [path.name for path in packagefile.companions(package)] == [
        "linux-binary-6.18_1_amd64.deb",
        "linux-modules-6.18_1_amd64.deb",
    ]
    assert packed(selector.ensure_kernel(str(package), cache)) == {"vfio.ko", "vfio-pci.ko"}


def test_a_package_without_a_kernel_is_refused(tmp_path, cache):
    (tmp_path / "root/usr/share/doc").mkdir(parents=True)
    package = deb(tmp_path / "hello_1_amd64.deb", tmp_path / "root", "hello")
    error = refused(package, cache)
    assert error.what == "there is no kernel in hello_1_amd64.deb"
    assert error.seen == "no vmlinuz"


def test_a_package_of_another_architecture_is_refused(root, tmp_path, cache):
    package = deb(tmp_path / "linux-image_1_arm64.deb", root, architecture="arm64")
    error = refused(package, cache)
    assert error.what == "linux-image_1_arm64.deb is for another architecture"
    assert error.seen == "arm64"


def test_half_a_package_is_refused(root, tmp_path, cache):
    package = deb(tmp_path / "linux-image_1_amd64.deb", root)
    package.write_bytes(package.read_bytes()[: package.stat().st_size // 2])
    assert "linux-image_1_amd64.deb" in refused(package, cache).what


def test_a_file_that_is_only_called_like_a_package_is_refused(tmp_path, cache):
    (tmp_path / "kernel.deb").write_text("text")
    assert refused(tmp_path / "kernel.deb", cache).what.endswith("kernel.deb is not a package")


@pytest.mark.skipif(shutil.which("rpm") is not None, reason="this host can read RPM packages")
def test_an_rpm_needs_its_tool(tmp_path, cache):
    (tmp_path / "kernel-core-6.18-1.x86_64.rpm").write_text("text")
    error = refused(tmp_path / "kernel-core-6.18-1.x86_64.rpm", cache)
    assert isinstance(error, HostError)
    assert "apt-get install" in error.hint


def test_a_kernel_without_modules_is_refused(root, cache):
    shutil.rmtree(root / "lib/modules")
    error = refused(root, cache)
    assert error.what == f"{root}/boot/vmlinuz-{RELEASE} has no modules beside it"


def test_modules_of_another_release_are_refused(root, cache):
    (root / "lib/modules" / RELEASE).rename(root / "lib/modules/6.1.0-1-amd64")
    error = refused(root, cache)
    assert error.what.endswith("has no modules beside it")
    assert "6.1.0-1-amd64" in error.seen


def test_modules_that_say_so_themselves_are_refused(root, cache):
    module(root / "lib/modules" / RELEASE / "kernel/squashfs.ko.xz", release="6.1.0-1-amd64")
    error = refused(root, cache)
    assert error.what.endswith(f"squashfs.ko.xz is not for kernel {RELEASE}")
    assert error.seen == "6.1.0-1-amd64"


def test_a_kernel_that_guests_cannot_boot_is_refused(root, cache):
    config = root / f"boot/config-{RELEASE}"
    config.write_text(MODULAR.replace("CONFIG_SQUASHFS=m", "# CONFIG_SQUASHFS is not set"))
    error = refused(root, cache)
    assert error.what == f"guests cannot boot kernel {RELEASE}"
    assert error.expected.startswith("squashfs, ")
    assert error.seen.startswith("CONFIG_SQUASHFS=n")


def test_a_kernel_without_a_configuration_is_refused(root, cache):
    (root / f"boot/config-{RELEASE}").unlink()
    assert refused(root, cache).what.endswith("has no configuration beside it")


def test_several_kernels_are_not_chosen_between(root, cache):
    bzimage(root / "boot/vmlinuz-6.1", "6.1 (me@here) #1")
    error = refused(root, cache)
    assert error.what == "root has several kernels"
    assert error.seen == f"6.1, {RELEASE}"


def test_the_running_kernel_is_found_where_it_is_installed(tmp_path):
    running = os.uname().release
    built = installations.running_kernel(tmp_path, installed(tmp_path / "root", release=running))
    assert (built.name, built.image.release) == ("host", running)


def test_a_running_kernel_without_its_files_is_refused(tmp_path):
    with pytest.raises(UsageError, match="is not here") as refusal:
        installations.running_kernel(tmp_path, tmp_path)
    assert refusal.value.exit_code == 2
