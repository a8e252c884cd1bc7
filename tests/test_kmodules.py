"""Replacing modules: real ELF files, the real squashfs tools, a kernel that is only a release."""

import shutil
import subprocess
from pathlib import Path

import pytest

from vfio_lab.errors import UsageError
from vfio_lab.kernels import kmodules
from vfio_lab.kernels.packaged import Kernel
from vfio_lab.util.cache import Cache

RELEASE = "7.3.4-lab"


def module(path: Path, word: str, release: str = RELEASE) -> Path:
    """Compile something that says of itself what a module says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    info = f'__attribute__((section(".modinfo"), used)) char m[] = "a=1\\0vermagic={release} SMP";'
    source = f'{info}\nchar word[] = "{word}";\n'
    command = [shutil.which("gcc"), "-g", "-x", "c", "-c", "-o", path, "-"]
    subprocess.run(command, input=source, text=True, check=True)
    return path


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    root = tmp_path / "lib/modules"
    for name in ("vfio", "vfio-pci"):
        module(root / RELEASE / f"kernel/drivers/vfio/{name}.ko", "old")
    packed = tmp_path / "modules.squashfs"
    subprocess.run([shutil.which("mksquashfs"), root, packed, "-quiet"], check=True)
    nothing = tmp_path / "nothing"
    return Kernel("7.3", RELEASE, (7, 3, 4), nothing, packed, nothing, "digest")


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache").open()


def content(kernel: Kernel, name: str) -> bytes:
    command = [shutil.which("unsquashfs"), "-cat", kernel.modules, f"{RELEASE}/{name}"]
    return subprocess.run(command, check=True, capture_output=True).stdout


def test_only_modules_of_those_names_are_replaced(
    kernel: Kernel, cache: Cache, tmp_path: Path
) -> None:
    new = module(tmp_path / "new/deep/vfio.ko", "new")
    made = kmodules.replaced(kernel, kmodules.found_in(tmp_path / "new"), cache)
    assert b"new" in content(made, "kernel/drivers/vfio/vfio.ko")
    assert b"old" in content(made, "kernel/drivers/vfio/vfio-pci.ko")
    assert b".debug_info" in new.read_bytes()
    assert b".debug_info" not in content(made, "kernel/drivers/vfio/vfio.ko")
    assert b"kernel/drivers/vfio/vfio.ko:" in content(made, "modules.dep")


def test_another_releases_modules_beside_them_are_left_alone(
    kernel: Kernel, cache: Cache, tmp_path: Path
) -> None:
    root = tmp_path / "lib/modules"
    module(root / f"{RELEASE}+/kernel/drivers/vfio/vfio.ko", "other", f"{RELEASE}+")
    kernel.modules.unlink()
    subprocess.run([shutil.which("mksquashfs"), root, kernel.modules, "-quiet"], check=True)
    made = kmodules.replaced(kernel, [module(tmp_path / "new/vfio.ko", "new")], cache)
    assert b"new" in content(made, "kernel/drivers/vfio/vfio.ko")


def test_it_is_another_kernel_that_nobody_will_ask_for_again(
    kernel: Kernel, cache: Cache, tmp_path: Path
) -> None:
    first = kmodules.replaced(kernel, [module(tmp_path / "a/vfio.ko", "a")], cache)
    again = kmodules.replaced(kernel, [module(tmp_path / "b/vfio.ko", "a")], cache)
    other = kmodules.replaced(kernel, [module(tmp_path / "c/vfio.ko", "c")], cache)
    assert first == again
    assert len({kernel.digest, first.digest, other.digest}) == 3
    assert first.name.startswith("7.3+")
    assert (kernel.lasting, first.lasting) == (True, False)


def test_they_do_not_pile_up(
    kernel: Kernel, cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kmodules, "KEPT", 2)
    monkeypatch.setattr(kmodules, "IDLE_S", 0.0)
    for number in range(4):
        path = module(tmp_path / str(number) / "vfio.ko", str(number))
        made = kmodules.replaced(kernel, [path], cache)
    assert len(cache.keys(kmodules.KIND)) == kmodules.KEPT
    assert made.modules.exists()


def test_modules_of_another_kernel_are_refused(
    kernel: Kernel, cache: Cache, tmp_path: Path
) -> None:
    foreign = module(tmp_path / "stranger.ko", "x")
    with pytest.raises(UsageError, match=r"kernel 7\.3 has no module stranger\.ko"):
        kmodules.replaced(kernel, [foreign], cache)
    older = module(tmp_path / "vfio.ko", "x", "6.12.1-lab")
    with pytest.raises(UsageError, match=r"vfio\.ko is not for kernel 7\.3"):
        kmodules.replaced(kernel, [older], cache)
    assert cache.keys(kmodules.KIND) == []


def test_what_is_no_module_is_refused(kernel: Kernel, cache: Cache, tmp_path: Path) -> None:
    path = tmp_path / "vfio.ko"
    path.write_text("text")
    with pytest.raises(UsageError, match="is not for kernel") as refusal:
        kmodules.replaced(kernel, [path], cache)
    assert refusal.value.seen == "no vermagic: this is no kernel module"


def test_folders_without_modules_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no folder"):
        kmodules.found_in(tmp_path / "absent")
    with pytest.raises(UsageError, match="there are no modules in"):
        kmodules.found_in(tmp_path)
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "vfio.ko").touch()
    with pytest.raises(UsageError, match=r"more than one vfio\.ko"):
        kmodules.found_in(tmp_path)
