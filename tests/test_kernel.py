import json
import os
import re
import shutil
import subprocess
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from support.processes import running

from vfio_lab.cli.kernel import kernel as command
from vfio_lab.errors import (
    BuildError,
    HostError,
    LabError,
    UsageError,
)
from vfio_lab.kernels import (
    distribution,
    kbuild,
    kconfig,
    ksource,
    packaged,
)
from vfio_lab.kernels.make_output import step
from vfio_lab.util import apt, host
from vfio_lab.util.cache import Cache, digest
from vfio_lab.util.deadline import Deadline, wait_until

# A source tree that answers to the targets the lab uses, as kbuild does, in no time.
MAKEFILE = """\
VERSION = 7
PATCHLEVEL = 3
SUBLEVEL = 4
REL = 7.3.4-lab
.PHONY: allnoconfig bzImage modules modules_install
allnoconfig:
	grep -v CONFIG_DENIED $(KCONFIG_ALLCONFIG) > $(O)/.config
	mkdir -p $(O)/include/config $(O)/arch/x86/boot
	echo $(REL) > $(O)/include/config/kernel.release
bzImage:
	@echo "  CC      init/main.o"
	@test ! -e BROKEN || { echo "init/main.c:1: error: no such luck"; exit 1; }
	@echo $(KBUILD_BUILD_USER)@$(KBUILD_BUILD_HOST) > $(O)/arch/x86/boot/bzImage
	@echo 0 T start > $(O)/System.map
modules:
	@echo "  CC [M]  drivers/vfio/vfio.o"
modules_install:
	mkdir -p $(INSTALL_MOD_PATH)/lib/modules/$(REL)
	echo vfio > $(INSTALL_MOD_PATH)/lib/modules/$(REL)/vfio.ko
	ln -s $(CURDIR) $(INSTALL_MOD_PATH)/lib/modules/$(REL)/build
"""
KCONFIG = "config VFIO\nconfig DENIED\nconfig NAME\n"
FRAGMENT = 'CONFIG_VFIO=m # the core\nCONFIG_NAME="x" # a name\nCONFIG_NEW=y # since 7.4: later\n'
TOML = """
default = "7.3"
fragments = ["base"]
[flavours.debug]
about = "slow"
fragment = "debug"
[kernels."7.3"]
about = "new"
package = "linux-source-7.3"
suites = ["sid"]
steps = { plain = 2, debug = 2 }
"""


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A catalogue of one small kernel, in place of the lab's own."""
    folder = tmp_path / "images"
    (folder / "config").mkdir(parents=True)
    (folder / "kernels.toml").write_text(TOML)
    (folder / "config/base.config").write_text(FRAGMENT)
    (folder / "config/debug.config").write_text("CONFIG_VFIO=y # built in\n")
    read = packaged.kernel_catalogue
    monkeypatch.setattr(packaged, "kernel_catalogue", lambda: read(folder))
    monkeypatch.setattr(host, "need", lambda _purpose: None)
    return folder


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "linux-source-7.3"
    folder.mkdir()
    (folder / "Makefile").write_text(MAKEFILE)
    (folder / "Kconfig").write_text(KCONFIG)
    (folder / "arch/x86").mkdir(parents=True)
    return folder


@pytest.fixture
def cache(tmp_path: Path, images: Path, tree: Path) -> Cache:
    """A cache that has the small kernel's source, and an archive out of reach."""
    del images
    made = Cache(tmp_path / "cache")
    give_source(made, tree)
    return made


def give_source(cache: Cache, tree: Path) -> None:
    def package(scratch: Path) -> None:
        root = scratch / "root"
        (root / "DEBIAN").mkdir(parents=True)
        (root / "DEBIAN/control").write_text(
            "Package: linux-source-7.3\nVersion: 7.3.4-1\nArchitecture: all\n"
            "Maintainer: nobody <n@invalid>\nDescription: small\n"
        )
        (root / "usr/src").mkdir(parents=True)
        tarball = root / "usr/src/linux-source-7.3.tar.xz"
        said(
            "tar", "--create", "--xz", f"--file={tarball}", f"--directory={tree.parent}", tree.name
        )
        said("dpkg-deb", "--root-owner-group", "-Znone", "--build", root, scratch / "source.deb")
        shutil.rmtree(root)

    key = "linux-source-7.3-" + "0" * 16
    cache.remove(ksource.KIND, key)
    cache.obtain(ksource.KIND, key, package)
    pin = cache.root / ksource.KIND / "linux-source-7.3.json"
    found = apt.Package("linux-source-7.3", "7.3.4-1", "sid", "0" * 64, 1)
    pin.write_text(json.dumps(found.__dict__))


def said(*arguments: str | Path) -> str:
    return subprocess.run(arguments, check=True, capture_output=True, text=True).stdout


def leftovers(cache: Cache) -> list[str]:
    folder = cache.root / packaged.KIND
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_a_kernel_is_built_from_its_source_and_what_it_is_asked_for(cache: Cache) -> None:
    built = packaged.ensure_packaged_kernel("7.3", cache)
    assert (built.name, built.release, built.version) == ("7.3", "7.3.4-lab", (7, 3, 4))
    assert built.bzimage.read_text() == "vfio@lab\n"
    assert built.option("CONFIG_VFIO") == built.option("VFIO") == "m"
    assert built.option("NAME") == "x"
    assert built.option("NEW") is None
    names = {path.name for path in built.bzimage.parent.iterdir()}
    assert names == {
        "bzImage",
        "modules.squashfs",
        "config",
        "System.map",
        "kernel.json",
        "manifest.json",
    }


def test_modules_lie_at_the_root_of_their_squashfs(cache: Cache) -> None:
    built = packaged.ensure_packaged_kernel("7.3", cache)
    listing = said("unsquashfs", "-lln", "-no-progress", built.modules)
    assert re.search(r" 0/0 .* squashfs-root/7\.3\.4-lab/vfio\.ko$", listing, re.MULTILINE)
    assert "build" not in listing
    assert "1970-01-01" in listing


def test_the_same_input_gives_the_same_digest(cache: Cache) -> None:
    first = packaged.ensure_packaged_kernel("7.3", cache)
    cache.remove(packaged.KIND, first.bzimage.parent.name)
    assert packaged.find_packaged_kernel("7.3", cache) is None
    assert packaged.ensure_packaged_kernel("7.3", cache) == first


def test_a_built_kernel_needs_neither_source_nor_tools(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = packaged.ensure_packaged_kernel("7.3", cache)
    cache.remove(ksource.KIND, "linux-source-7.3-" + "0" * 16)
    monkeypatch.setenv("PATH", "/nowhere")
    assert packaged.ensure_packaged_kernel("7.3", cache) == built


def test_a_damaged_kernel_is_rebuilt(cache: Cache) -> None:
    built = packaged.ensure_packaged_kernel("7.3", cache)
    built.bzimage.write_text("half")
    assert packaged.find_packaged_kernel("7.3", cache) is None
    assert packaged.ensure_packaged_kernel("7.3", cache).bzimage.read_text() == "vfio@lab\n"


def test_flavours_are_kernels_of_their_own(cache: Cache) -> None:
    plain, debug = (
        packaged.ensure_packaged_kernel("7.3", cache),
        packaged.ensure_packaged_kernel("7.3:debug", cache),
    )
    assert (plain.option("VFIO"), debug.option("VFIO")) == ("m", "y")
    assert plain.digest != debug.digest


def test_another_option_is_another_kernel(cache: Cache, images: Path) -> None:
    before = packaged.ensure_packaged_kernel("7.3", cache)
    fragment = images / "config/base.config"
    fragment.write_text(FRAGMENT.replace("the core", "the core, said better"))
    assert packaged.find_packaged_kernel("7.3", cache) == before
    fragment.write_text(FRAGMENT.replace("VFIO=m", "VFIO=y"))
    assert packaged.find_packaged_kernel("7.3", cache) is None


def test_an_option_that_is_not_granted_is_named(cache: Cache, images: Path) -> None:
    (images / "config/base.config").write_text(FRAGMENT + "CONFIG_DENIED=y # please\n")
    with pytest.raises(BuildError) as refusal:
        packaged.ensure_packaged_kernel("7.3", cache)
    assert "CONFIG_DENIED=y became n" in str(refusal.value)
    assert leftovers(cache) == []


def test_a_failing_compiler_is_quoted_and_nothing_half_made_stays(cache: Cache, tree: Path) -> None:
    (tree / "BROKEN").touch()
    give_source(cache, tree)
    with pytest.raises(BuildError, match=r"kernel 7\.3 does not compile") as refusal:
        packaged.ensure_packaged_kernel("7.3", cache)
    assert refusal.value.seen == "init/main.c:1: error: no such luck"
    assert "no such luck" in (refusal.value.tail or "")
    assert refusal.value.where is not None
    assert "no such luck" in refusal.value.where.read_text()
    assert leftovers(cache) == []


def test_an_interrupt_ends_the_build_and_leaves_nothing(
    cache: Cache, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = f"--sleep-interval={os.getpid()}"
    slow = f'\t@echo "  CC      a.o"; exec tail -f /dev/null {mark}\n'
    (tree / "Makefile").write_text(MAKEFILE.replace("bzImage:\n", f"bzImage:\n{slow}"))
    give_source(cache, tree)

    def interrupt(line: str) -> str | None:
        if "a.o" in line:
            wait_until("make to wait", lambda: running(mark), Deadline.after(10))
            raise KeyboardInterrupt
        return None

    monkeypatch.setattr(kbuild, "step", interrupt)
    with pytest.raises(KeyboardInterrupt):
        packaged.ensure_packaged_kernel("7.3", cache)
    assert leftovers(cache) == []
    assert not running(mark)


def test_a_disk_that_fills_up_is_the_hosts_fault(cache: Cache, tree: Path) -> None:
    full = MAKEFILE.replace("init/main.c:1: error: no such luck", "cc1: No space left on device")
    (tree / "Makefile").write_text(full)
    (tree / "BROKEN").touch()
    give_source(cache, tree)
    with pytest.raises(HostError, match="the disk filled up") as refusal:
        packaged.ensure_packaged_kernel("7.3", cache)
    assert refusal.value.hint is not None
    assert leftovers(cache) == []


def test_the_callers_environment_does_not_steer_the_build(
    cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAKEFLAGS", "n")
    monkeypatch.setenv("INSTALL_MOD_PATH", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("KBUILD_BUILD_USER", "someone")
    assert packaged.ensure_packaged_kernel("7.3", cache).bzimage.read_text() == "vfio@lab\n"
    assert not (tmp_path / "elsewhere").exists()


def test_a_disk_without_room_is_said_before_anything_is_done(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kbuild, "SCRATCH_BYTES", 1 << 60)
    with pytest.raises(HostError, match=r"not enough disk space for building kernel 7\.3"):
        packaged.ensure_packaged_kernel("7.3", cache)
    assert leftovers(cache) == []


def test_what_is_no_kernel_source_is_refused(cache: Cache, tree: Path) -> None:
    (tree / "Makefile").write_text(MAKEFILE.replace("SUBLEVEL", "LEVEL"))
    give_source(cache, tree)
    with pytest.raises(BuildError, match="is no kernel source") as refusal:
        packaged.ensure_packaged_kernel("7.3", cache)
    assert refusal.value.expected == "SUBLEVEL in its Makefile"


def test_removing_a_kernel_spares_its_flavours_and_its_source(cache: Cache) -> None:
    plain = packaged.ensure_packaged_kernel("7.3", cache)
    debug = packaged.ensure_packaged_kernel("7.3:debug", cache)
    assert packaged.remove_kernel("7.3", cache) == 1
    assert packaged.remove_kernel("7.3", cache) == 0
    assert packaged.find_packaged_kernel("7.3:debug", cache) == debug
    assert packaged.ensure_packaged_kernel("7.3", cache) == plain


def test_outdated_builds_are_removed_too(cache: Cache, images: Path) -> None:
    packaged.ensure_packaged_kernel("7.3", cache)
    (images / "config/base.config").write_text(FRAGMENT.replace("VFIO=m", "VFIO=y"))
    packaged.ensure_packaged_kernel("7.3", cache)
    assert packaged.remove_kernel("7.3", cache) == 2
    assert leftovers(cache) == []


@pytest.mark.parametrize("name", ["7.4", "", "debug", "7.3:", "7.3:fast", "/boot/vmlinuz"])
def test_an_unknown_kernel_is_refused_with_those_there_are(name: str, cache: Cache) -> None:
    with pytest.raises(UsageError) as refusal:
        packaged.ensure_packaged_kernel(name, cache)
    assert refusal.value.expected == "one of 7.3, 7.3:debug"


@pytest.mark.parametrize(
    ("line", "about"),
    [
        ("  CC      drivers/vfio/group.o", "drivers/vfio/group.o"),
        ("  CC [M]  drivers/vfio/group.o", "drivers/vfio/group.o"),
        ("  LD [M]  drivers/vfio/vfio.ko", "drivers/vfio/vfio.ko"),
        ("make[1]: Entering directory '/x'", None),
        ("drivers/vfio/group.c:1: warning: CC is not a step", None),
        ("", None),
    ],
)
def test_lines_of_make_that_tell_of_a_step(line: str, about: str | None) -> None:
    assert step(line) == about


def test_the_labs_own_catalogue_is_sound() -> None:
    known = packaged.kernel_catalogue()
    assert known.default in known.specs
    assert {"7.3", "6.12", "6.1", "7.3:debug"} <= set(known.specs)
    for spec in known.specs.values():
        asked = {option.name: option.value for option in spec.asked}
        assert asked["VFIO"] == "m"
        assert asked["VFIO_NOIOMMU"] == "y"
        assert ("IOMMUFD" in asked) == (spec.series >= (6, 2))
        assert ("PROVE_LOCKING" in asked) == spec.name.endswith(":debug")
        mocked = spec.name.endswith((":mocks", ":gcov")) and spec.series >= (6, 2)
        assert ("IOMMUFD_TEST" in asked) == mocked
        assert spec.steps > 1000


def test_every_fragment_is_used() -> None:
    folder = packaged.IMAGES / "config"
    named = {
        option.where.partition(":")[0]
        for spec in packaged.kernel_catalogue().specs.values()
        for option in (*spec.options, *spec.extra)
    }
    assert named == {path.name for path in folder.iterdir()}


def test_a_key_depends_on_all_that_goes_in() -> None:
    spec = packaged.kernel_catalogue().spec("7.3")
    keys = [
        spec.key("0" * 64),
        spec.key("1" * 64),
        replace(spec, name="other").key("0" * 64),
        replace(spec, options=spec.options[1:]).key("0" * 64),
        replace(spec, series=kconfig.series("6.1")).key("0" * 64),
    ]
    assert len(set(keys)) == len(keys)
    assert spec.key("0" * 64) == keys[0]


def test_the_command_lists_builds_shows_and_removes(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Cache, "default", classmethod(lambda _cls: cache))
    monkeypatch.setattr(distribution, "distribution_catalogue", dict)
    assert run("list") == textwrap.dedent(
        """\
        * 7.3        not built               new
          7.3:debug  not built               slow
        """
    )
    assert run("build", "7.3").startswith("7.3: 7.3.4-lab, ")
    assert "* 7.3        7.3.4-lab " in run("list")
    shown = run("show", "7.3")
    assert "source     linux-source-7.3 7.3.4-1 from sid" in shown
    assert digest({}) not in shown
    assert packaged.ensure_packaged_kernel("7.3", cache).digest in shown
    assert run("remove", "7.3") == "7.3: 1 build deleted\n"
    assert "built      no" in run("show", "7.3")
    assert cache.keys(ksource.KIND) != []
    assert run("remove", "--source", "7.3") == "7.3: 0 builds deleted\n"
    assert cache.keys(ksource.KIND) == []


def test_a_misspelt_name_is_refused_before_anything_is_built(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Cache, "default", classmethod(lambda _cls: cache))
    with pytest.raises(LabError, match=r"no kernel '7\.4'"):
        run("build", "7.3", "7.4")
    assert leftovers(cache) == []


def run(*arguments: str) -> str:
    return CliRunner().invoke(command, arguments, catch_exceptions=False).output
