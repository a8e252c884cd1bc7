"""Guests of arm64: their hardware, command lines, system calls, image and kernels, as values."""

import shutil
import struct
import subprocess
from dataclasses import fields, replace
from pathlib import Path

import pytest
from test_argv import BOOT, RUN

from vfio_lab.arch import AARCH64, X86_64, find_architecture
from vfio_lab.client.call import Buffer
from vfio_lab.client.spelling import NEWER, spell
from vfio_lab.errors import HostError, UsageError
from vfio_lab.hw.catalogue import TOPOLOGIES
from vfio_lab.hw.topology import Topology
from vfio_lab.hw.viommu import Viommu
from vfio_lab.image import agent, rootfs
from vfio_lab.image.recipe import command
from vfio_lab.kernels import packaged, selector
from vfio_lab.kernels.bzimage import BzImage
from vfio_lab.qemu.argv import argv
from vfio_lab.qemu.capabilities import QemuCaps
from vfio_lab.util import apt, host
from vfio_lab.util.cache import Cache

ARM64 = {name: each.on(AARCH64) for name, each in TOPOLOGIES.items()}
THERE = {name: each for name, each in ARM64.items() if not each.lacking}
CAPS = QemuCaps(
    Path("/usr/bin/qemu-system-aarch64"),
    (10, 0, 2),
    frozenset().union(*(each.qemu_devices for each in THERE.values())),
    "digest",
    AARCH64,
)
COMPILER = f"{AARCH64.cross}gcc"
needs_compiler = pytest.mark.skipif(
    shutil.which(COMPILER) is None, reason=f"{host.install_command([COMPILER])}"
)


@pytest.mark.parametrize("name", ["arm64", "aarch64"])
def test_an_architecture_goes_by_two_names(name: str) -> None:
    assert find_architecture(name) is AARCH64


def test_an_unknown_architecture_is_refused_with_those_there_are() -> None:
    with pytest.raises(UsageError, match="'sparc'") as error:
        find_architecture("sparc")
    assert error.value.expected == "one of amd64, arm64"


def test_topologies_that_the_machine_lacks() -> None:
    assert {name: each.lacking for name, each in ARM64.items() if each.lacking} == {
        "scalable": "intel-iommu with scalable-mode=on with flts=on",
        "no-remapping": "intel-iommu with intremap=off",
        "amd-iommu": "amd-iommu",
        "bridge": "arm-smmuv3 for a second device behind a conventional bridge",
        "mixed": "pxb-pcie",
    }
    assert not any(each.lacking for each in TOPOLOGIES.values())


@pytest.mark.parametrize("name", THERE)
def test_devices_under_test_have_the_same_addresses_and_groups(name: str) -> None:
    here, there = TOPOLOGIES[name], THERE[name]
    assert [(each.role, each.bdf) for each in there.endpoints] == [
        (each.role, each.bdf) for each in here.endpoints
    ]
    assert there.function("host").model.ids == "1b36:0008"
    assert there.on(X86_64).architecture == X86_64.name
    assert there.on(AARCH64) is there


def test_words_for_the_kernel_are_those_of_the_architecture() -> None:
    assert THERE["igb"].kernel_args == ()
    assert THERE["noiommu"].kernel_args == ()
    assert THERE["intel-pt"].kernel_args == ("iommu.passthrough=1",)


def test_the_keys_of_templates_leave_out_the_last_field() -> None:
    assert fields(Topology)[-1].name == "architecture"


@pytest.mark.parametrize(
    ("name", "machine", "viommu"),
    [
        ("igb", ",highmem-mmio=off,iommu=smmuv3", Viommu.SMMUV3),
        ("nic-bridge", ",iommu=smmuv3", Viommu.SMMUV3),
        ("virtio-iommu", ",highmem-mmio=off", Viommu.VIRTIO),
        ("noiommu", ",highmem-mmio=off", Viommu.NONE),
    ],
)
def test_the_command_line_of_a_guest(name: str, machine: str, viommu: Viommu) -> None:
    words = argv(THERE[name], CAPS, "tcg", BOOT, RUN)
    assert words[words.index("-machine") + 1] == (
        f"virt,memory-backend=mem,gic-version=3,its=on{machine}"
    )
    assert any("virtio-iommu-pci" in word for word in words) == (viommu is Viommu.VIRTIO)
    assert THERE[name].viommu is viommu
    assert "console=ttyAMA0" in words[words.index("-append") + 1]


def test_a_clone_names_no_kernel() -> None:
    clone = replace(BOOT, ram=Path("/t/ram"), state=Path("/t/state"))
    assert not {"-kernel", "-append"} & set(argv(THERE["igb"], CAPS, "tcg", clone, RUN))


def test_old_system_calls_are_made_by_newer_ones() -> None:
    fds = Buffer(b"\0" * 8, out=True)
    number, args = spell(AARCH64, "poll", (fds, 1, 1500))
    assert (number, args[:2], args[3:]) == (AARCH64.syscall("ppoll"), (fds, 1), (0, 0))
    assert isinstance(args[2], Buffer)
    assert struct.unpack("<qq", args[2].data) == (1, 500_000_000)
    assert spell(AARCH64, "poll", (fds, 1, -1))[1][2] == 0
    path = Buffer(b"/\0")
    assert spell(AARCH64, "access", (path, 0)) == (AARCH64.syscall("faccessat"), (-100, path, 0))
    assert spell(AARCH64, "chown", (path, 1, 2)) == (
        AARCH64.syscall("fchownat"),
        (-100, path, 1, 2, 0),
    )


@pytest.mark.parametrize("call", sorted(X86_64.syscalls))
def test_every_system_call_can_be_made(call: str) -> None:
    arguments = {"access": (0, 0), "chown": (0, 0, 0), "poll": (0, 0, 0)}.get(call, ())
    assert spell(AARCH64, call, arguments)[0] in AARCH64.syscalls.values()
    assert spell(X86_64, call, arguments) == (X86_64.syscall(call), arguments)
    assert (call in NEWER) == (call not in AARCH64.syscalls)


@pytest.mark.parametrize(
    ("name", "asked", "found"),
    [
        (None, None, ("7.3", X86_64)),
        (None, "arm64", ("7.3:arm64", AARCH64)),
        ("6.12", "arm64", ("6.12:arm64", AARCH64)),
        ("7.3:arm64", None, ("7.3:arm64", AARCH64)),
        ("7.3:debug", "amd64", ("7.3:debug", X86_64)),
        ("/some/tree", "arm64", ("/some/tree", AARCH64)),
    ],
)
def test_the_kernel_that_is_asked_for(
    name: str | None, asked: str | None, found: tuple[str, object]
) -> None:
    kernel = selector.ask_kernel(name, asked)
    assert (kernel.name, kernel.architecture) == found


@pytest.mark.parametrize(
    ("name", "asked"), [("7.3:arm64", "amd64"), ("7.3:debug", "arm64"), ("debian/sid", "arm64")]
)
def test_a_kernel_that_is_not_there_for_an_architecture(name: str, asked: str) -> None:
    with pytest.raises(UsageError, match=f"no kernel '{name}' for {asked}"):
        selector.ask_kernel(name, asked)


def test_an_image_of_the_other_architecture_is_named_as_such(tmp_path: Path) -> None:
    image = tmp_path / "Image"
    image.write_bytes(b"\0" * 0x38 + b"ARM\x64" + b"\0" * 0x1000)
    with pytest.raises(UsageError, match="is a kernel for arm64"):
        BzImage.read(image)


def test_kernels_of_two_architectures_have_two_keys() -> None:
    specs = packaged.kernel_catalogue().specs
    inputs = specs["7.3:arm64"].inputs("0" * 64)
    assert (inputs["name"], inputs["architecture"]) == ("7.3:arm64", "aarch64")
    asked = {option.name for option in specs["7.3:arm64"].asked}
    assert {"ARM_SMMU_V3", "PCI_HOST_GENERIC", "VFIO_NOIOMMU", "IOMMUFD"} <= asked
    assert not {"INTEL_IOMMU", "KVM", "SERIAL_8250"} & asked


def test_a_missing_compiler_is_one_line_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "which", lambda _name: None)
    monkeypatch.setattr(host, "cross", lambda architecture: architecture.cross)
    with pytest.raises(HostError, match="no compiler for aarch64") as error:
        host.need_compiler(AARCH64)
    assert error.value.hint == host.install_command([COMPILER])


@pytest.fixture
def foreign(monkeypatch: pytest.MonkeyPatch) -> rootfs.Recipe:
    """The base image for arm64 on a host that cannot run it."""
    monkeypatch.setattr(host, "cross", lambda architecture: architecture.cross)
    return rootfs.recipe(architecture=AARCH64)


def test_no_program_of_a_foreign_image_is_run(foreign: rootfs.Recipe, tmp_path: Path) -> None:
    words = command(foreign, apt.Mirror("http://mirror.example/debian", None), tmp_path)
    assert {"--variant=extract", "--architectures=arm64", "--include=?essential"} <= set(words)
    assert not any("chroot" in word or "customize" in word for word in words)
    assert foreign.key != rootfs.recipe().key


def test_an_image_that_is_not_made_for_an_architecture(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'clients' is not made for aarch64"):
        rootfs.ensure_image(Cache(tmp_path).open(), "clients", AARCH64)


def test_what_maintainer_scripts_leave_behind(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for name in ("passwd.master", "group.master"):
        made = root / "usr/share/base-passwd" / name
        made.parent.mkdir(parents=True, exist_ok=True)
        made.write_text("root:*:0:0:root:/root:/bin/bash\n")
    for name in ("libc-bin/nsswitch.conf", "base-files/profile"):
        made = root / "usr/share" / name
        made.parent.mkdir(parents=True, exist_ok=True)
        made.write_text(name)
    for folder in ("etc", "usr/bin", "var/cache/apt/archives", "var/lib/dpkg"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    control = tmp_path / "small/DEBIAN/control"
    control.parent.mkdir(parents=True)
    control.write_text(
        "Package: small\nVersion: 1-2\nArchitecture: arm64\nMaintainer: n <n@invalid>\n"
        "Description: small\n"
    )
    target = root / "var/cache/apt/archives/small.deb"
    build = [shutil.which("dpkg-deb"), "--root-owner-group", "-b", tmp_path / "small", target]
    subprocess.run(build, check=True)
    subprocess.run(["/bin/sh", rootfs.IMAGES / "foreign", root], check=True)
    assert rootfs.installed((root / "var/lib/dpkg/status").read_text()) == {"small": "1-2"}
    assert "sshd:x:100:" in (root / "etc/passwd").read_text()
    assert (root / "etc/shadow").read_text().splitlines()[0] == "root:*:20000:0:99999:7:::"
    assert (root / "usr/bin/awk").readlink() == Path("mawk")


@needs_compiler
def test_the_agent_is_compiled_for_the_guests(tmp_path: Path) -> None:
    made = agent.build_agent(Cache(tmp_path).open(), architecture=AARCH64)
    assert struct.unpack_from("<H", made.read_bytes(), 18) == (183,)  # EM_AARCH64
