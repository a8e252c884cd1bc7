"""What clients are started with, and what is read from what they print."""

import time
from types import SimpleNamespace
from uuid import UUID

import pytest

from vfio_lab.client.call import CommandResult
from vfio_lab.client.sysfs import PciFunction
from vfio_lab.errors import GuestLost
from vfio_lab.hw.pci import Bdf
from vfio_lab.workloads import nested, selftests, tap
from vfio_lab.workloads.nested import Hypervisor, Inner, device_option
from vfio_lab.workloads.programs import (
    Dpdk,
    Libvirt,
    node,
    put,
)
from vfio_lab_pytest import clients

TOKEN = UUID("6c1b3f6e-2f0a-4c53-9a52-0d6f2c7b8e11")
TAP = """\
TAP version 13
1..3
#  RUN           vfio_cdev.bind ...
#            OK  vfio_cdev.bind
ok 1 vfio_cdev.bind
not ok 2 vfio_cdev.attach
ok 3 vfio_dma_mapping_test.iommufd.map # SKIP mmap() failed: Cannot allocate memory (12)
# Totals: pass:1 fail:1 xfail:0 xpass:0 skip:1 error:0
"""
CONSOLE = """\
[    0.000000] Linux version 7.3.4-lab
[has aer_dev_fatal]\r
[net eth0]\r
The test result is FAIL\r
Register test  (offline)\t 0\r
Loopback test  (offline)\t 13\r
[end]\r
"""


class FakeUser:
    """Notes what it is asked to run, and answers as told."""

    def __init__(self, stdout=""):
        self.stdout = stdout
        self.ran = []

    def run(self, *argv, **_words):
        self.ran.append(argv)
        return CommandResult(argv, 0, self.stdout, "")

    def syscall(self, call, *_args, **words):
        self.ran.append((call, words["about"]))
        return SimpleNamespace(value=7)

    def write(self, fd, data):
        self.ran.append((fd, data))

    def close(self, fd):
        self.ran.append((fd, "close"))


@pytest.fixture
def vf():
    return PciFunction(Bdf(0, 1, 16, 0), None)


def test_tap_tells_passed_failed_and_skipped():
    assert tap.results(TAP) == {
        "vfio_cdev.bind": tap.PASSED,
        "vfio_cdev.attach": tap.FAILED,
        "vfio_dma_mapping_test.iommufd.map": tap.SKIPPED,
    }


def test_what_an_inner_guest_found_is_read_from_its_console():
    found = Inner(CONSOLE)
    assert found.found("has") == {"aer_dev_fatal"}
    assert found.found("net") == {"eth0"}
    assert found.selftest("Register test") == 0
    assert found.selftest("Loopback test") == 13


def test_qemu_is_given_the_token_and_the_backend(vf):
    assert device_option(vf, None) == ["-device", "vfio-pci,host=0000:01:10.0,bus=pcie.0,addr=01.0"]
    assert device_option(vf, TOKEN)[-1].endswith(f",vf-token={TOKEN}")
    assert device_option(vf, None, iommufd=True)[:2] == ["-object", "iommufd,id=backend"]
    assert device_option(vf, None, iommufd=True)[-1].endswith(",iommufd=backend")


def test_an_assigned_guest_never_runs_and_a_booted_one_does(vf):
    user = FakeUser(CONSOLE)
    Hypervisor(user).assign(vf)
    Hypervisor(user).boot(vf, "igbvf", TOKEN, "selftest=1")
    waiting, running = user.ran
    assert {"-S", "-daemonize"} <= set(waiting)
    assert not {"-S", "-daemonize"} & set(running)
    assert running[-1].endswith("driver=igbvf selftest=1")


@pytest.fixture
def fake_qemu(tmp_path, monkeypatch):
    """Return what sets the shell script that stands in for QEMU."""

    def stand_in(script):
        path = tmp_path / "qemu"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        monkeypatch.setattr(nested, "QEMU", str(path))

    return stand_in


def test_an_inner_guest_that_kvm_gives_up_is_not_waited_for(user, vf, fake_qemu):
    fake_qemu("echo '[net eth0]'; echo KVM internal error. Suberror: 3 >&2; exec sleep 60")
    began = time.monotonic()
    with pytest.raises(GuestLost) as lost:
        Hypervisor(user).boot(vf, "igbvf")
    assert time.monotonic() - began < 20
    assert (lost.value.seen, lost.value.device) == ("KVM internal error", "0000:01:10.0")
    assert lost.value.tail == "[net eth0]\nKVM internal error. Suberror: 3\n"


def test_an_inner_guest_that_ends_before_its_time_is_lost(user, vf, fake_qemu):
    fake_qemu("echo modprobe: module igbvf not found; echo Kernel panic - not syncing")
    with pytest.raises(GuestLost) as lost:
        Hypervisor(user).boot(vf, "igbvf")
    assert (lost.value.expected, lost.value.seen) == ("[end]", None)
    assert "modprobe: module igbvf not found" in str(lost.value)


def test_an_inner_guest_has_said_all_when_it_ends(user, vf, fake_qemu, tmp_path):
    (tmp_path / "console").write_text(CONSOLE)
    fake_qemu(f"cat {tmp_path}/console")
    assert Hypervisor(user).boot(vf, "igbvf").found("net") == {"eth0"}


@pytest.mark.parametrize(
    ("said", "ports"),
    [
        ("io packet forwarding - ports=0 - cores=0\n nb forwarding ports=0", 0),
        ("  nb forwarding cores=1 - nb forwarding ports=1\n", 1),
        ("EAL: Error", 0),
    ],
)
def test_testpmd_is_judged_by_its_ports(vf, said, ports):
    assert Dpdk(FakeUser(said)).forward(vf).ports == ports


def test_testpmd_presents_the_token(vf):
    user = FakeUser()
    Dpdk(user).forward(vf, TOKEN)
    assert f"--vfio-vf-token={TOKEN}" in user.ran[0]


def test_libvirt_has_its_own_names(vf):
    assert node(vf) == "pci_0000_01_10_0"
    user = FakeUser()
    Libvirt(user).create(vf)
    (written,) = [what for fd, *rest in user.ran if fd == 7 for what in rest if what != "close"]
    assert b'domain="0x0" bus="0x1" slot="0x10" function="0x0"' in written


def test_a_file_is_written_and_closed():
    user = FakeUser()
    put(user, "/etc/it", "text")
    assert user.ran == [("openat", "/etc/it"), (7, b"text"), (7, "close")]


def test_selftests_have_the_harness_own_names():
    assert selftests.selftest_names("vfio_cdev", [""], ["bind"]) == ["vfio_cdev.bind"]
    assert selftests.selftest_names("f", ["a", "b"], ["t"]) == ["f.a.t", "f.b.t"]
    tokens = selftests.of_tokens(selftests.MODES)
    assert len(tokens) == len(set(tokens)) == 45
    assert "vfio_pci_sriov_uapi_test.iommufd_null_uuid.pf_early_close" in tokens


def test_selftests_travel_without_the_manifest(tmp_path):
    for name in ("vfio_pci_device_test", "manifest.json"):
        (tmp_path / name).write_bytes(b"ELF")
    assert selftests.selftest_files(tmp_path) == {"selftests/vfio_pci_device_test": b"ELF"}


@pytest.mark.parametrize(
    ("chunk", "expected"),
    [(None, "P Q a b c d e f g h i p"), (1, "a b c d e f g h P Q i p")],
    ids=["program first", "in their order"],
)
def test_only_one_scenario_waits_for_a_program(chunk, expected):
    """Its first one comes early; the others are the last ones, when it has ended."""
    named = {"P": "p", "p": "p", "Q": "q"}
    items = [
        SimpleNamespace(name=name, callspec=SimpleNamespace(params={"program": named.get(name)}))
        for name in "aPpbcdefghiQ"
    ]
    config = SimpleNamespace(workerinput={}, getoption=lambda _name: chunk)
    clients.pytest_collection_modifyitems(config, items)
    assert " ".join(item.name for item in items) == expected
