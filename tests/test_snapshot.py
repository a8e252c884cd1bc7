"""Who holds what in a guest, by name."""

import os

import pytest

from vfio_lab.agent import snapshot as seen
from vfio_lab.client.transcript import Entry
from vfio_lab.machine.state import OpenFile, snapshot

DEVICE = "anon_inode:[vfio-device]"
GOT = Entry(1, 2, "vf_user", "VFIO_GROUP_GET_DEVICE_FD", '3, "0000:01:10.0 vf_token=6c1b"', "5")


def held(descriptors, transcript=(GOT,)):
    answer = {"functions": [], "descriptors": {"77": descriptors}}
    return snapshot(answer, {77: "vf_user"}, transcript).held


def test_a_device_from_a_group_is_called_by_its_address():
    assert held({"3": "/dev/vfio/11", "5": DEVICE}) == (
        OpenFile("vf_user", 3, "/dev/vfio/11"),
        OpenFile("vf_user", 5, "0000:01:10.0"),
    )


def test_a_device_nobody_saw_opened_keeps_the_kernels_name():
    assert held({"5": DEVICE}, ()) == (OpenFile("vf_user", 5, DEVICE),)


@pytest.mark.parametrize("file", ["socket:[12]", "/dev/null", "anon_inode:[pidfd]", ""])
def test_what_every_user_has_open_is_left_out(file):
    assert held({"3": file}) == ()


def test_a_user_nobody_named_is_known_by_its_pid():
    (one,) = snapshot({"functions": [], "descriptors": {"5": {"3": "/x"}}}, {}, ()).held
    assert one.user == "pid 5"


def test_a_process_is_seen_with_its_descriptors_until_it_is_gone():
    with open("/dev/zero") as file:  # noqa: PTH123 - the descriptor is what matters
        assert seen.descriptors(os.getpid())[str(file.fileno())] == "/dev/zero"
    assert seen.descriptors(1 << 30) == {}


def test_a_function_is_read_whole_with_what_it_lacks_left_empty(tmp_path, monkeypatch):
    folder = tmp_path / "0000:01:10.0"
    folder.mkdir()
    (folder / "vendor").write_text("0x8086\n")
    (folder / "device").write_text("0x10ca\n")
    (folder / "physfn").symlink_to("../0000:01:00.0")
    monkeypatch.setattr(seen, "PCI", str(tmp_path))
    assert seen.functions() == [
        {
            "bdf": "0000:01:10.0",
            "vendor": "8086",
            "device": "10ca",
            "driver": "",
            "iommu_group": "",
            "physfn": "0000:01:00.0",
        }
    ]
