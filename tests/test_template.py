"""Templates: what makes two of them the same."""

import errno
from pathlib import Path
from types import SimpleNamespace

import pytest

from vfio_lab.arch import X86_64
from vfio_lab.errors import HostError
from vfio_lab.hw.catalogue import find_topology
from vfio_lab.machine.guest import BootSpec
from vfio_lab.machine.template import GuestFactory, wherever
from vfio_lab.qemu import accelerator
from vfio_lab.qemu.accelerator import Accelerator
from vfio_lab.qemu.argv import BootFiles
from vfio_lab.qemu.capabilities import QemuCaps
from vfio_lab.util.cache import Cache
from vfio_lab.util.files import require_shared_mappings


def test_a_copied_cache_has_the_same_templates():
    here, there = Path("/home/a/.cache/vfio-lab"), Path("/srv/b")
    lines = [
        ["qemu", "-kernel", f"{root}/kernel/k/bzImage", "-append", "ro"] for root in (here, there)
    ]
    assert wherever(here, lines[0]) == wherever(there, lines[1])
    assert wherever(here, lines[0]) != wherever(here, [*lines[0][:-1], "rw"])


def test_a_file_system_without_shared_mappings_is_found_before_a_guest_is(tmp_path, monkeypatch):
    cache = Cache(tmp_path)

    def refuse(*_):
        raise OSError(errno.ENODEV, "No such device")

    require_shared_mappings(cache.root)
    monkeypatch.setattr("mmap.mmap", refuse)
    with pytest.raises(HostError, match=r"cannot be mapped[\s\S]*No such device[\s\S]*--lab-cold"):
        require_shared_mappings(cache.root)
    assert list(cache.root.iterdir()) == []


CPU = """\
processor	: 0
vendor_id	: GenuineIntel
model		: {model}
cpu MHz		: {mhz}
flags		: fpu vme {flags}

processor	: 1
vendor_id	: GenuineIntel
"""


@pytest.fixture
def key(tmp_path, monkeypatch):
    """What a template depends on, with an accelerator, on a host with such a CPU."""

    def inputs(name, model=85, flags="avx2", mhz="2100.0"):
        (tmp_path / "cpuinfo").write_text(CPU.format(model=model, flags=flags, mhz=mhz))
        monkeypatch.setattr(accelerator, "CPUINFO", tmp_path / "cpuinfo")
        topology = find_topology("igb")
        binary = Path("/usr/bin/qemu-system-x86_64")
        caps = QemuCaps(binary, (10, 0, 2), frozenset(topology.qemu_devices), "")
        files = BootFiles(*map(Path, ("/k", "/i")), "squashfs", *map(Path, ("/m", "/p/payload")))
        kernel = SimpleNamespace(name="7.3", digest="k", architecture=X86_64)
        factory = GuestFactory(Cache(tmp_path), kernel, caps, Accelerator(name, ""))
        cold = BootSpec(topology, kernel, caps, factory.accelerator, files, tmp_path)
        return factory._inputs(cold, SimpleNamespace(digest="i"))

    return inputs


@pytest.mark.parametrize("other", [{"model": 106}, {"flags": "avx512f"}])
def test_a_template_made_on_kvm_is_of_one_kind_of_cpu(key, other):
    assert key("kvm") != key("kvm", **other)
    assert key("kvm") == key("kvm", mhz="3000.0")


def test_a_template_made_without_kvm_is_of_any_cpu(key):
    assert key("tcg") == key("tcg", model=106)
