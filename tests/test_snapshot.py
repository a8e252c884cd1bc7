"""Who holds what in a guest, by name."""

import pytest

from vfio_lab.client.transcript import Entry
from vfio_lab.errors import AgentError
from vfio_lab.machine.state import OpenFile, PciState, snapshot

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


def test_a_user_is_seen_with_its_descriptors_until_it_is_gone(agent, tmp_path):
    (reserved,) = agent.ask("reserve", count=1)["pids"]
    other, user = agent.user(), agent.user()
    assert other.pid == reserved
    fd = user.open_path("/dev/zero")
    seen = agent.ask("snapshot", folder=str(tmp_path))["descriptors"]
    assert seen[str(user.pid)][str(fd)] == "/dev/zero"
    assert set(seen) == {str(user.pid), str(other.pid)}
    user.kill()
    agent.ask("reserve", count=1)
    assert set(agent.ask("snapshot", folder=str(tmp_path))["descriptors"]) == {str(other.pid)}


def test_a_function_is_read_whole_with_what_it_lacks_left_empty(agent, tmp_path):
    folder = tmp_path / "0000:01:10.0"
    folder.mkdir()
    (folder / "vendor").write_text("0x8086\n")
    (folder / "device").write_text("0x10ca\n")
    (folder / "physfn").symlink_to("../0000:01:00.0")
    (folder / "vfio-dev/vfio3").mkdir(parents=True)
    (tmp_path / "0000:00:00.0").mkdir()
    answer = agent.ask("snapshot", folder=str(tmp_path))
    bridge, function = snapshot(answer, {}, ()).functions
    assert function == PciState("0000:01:10.0", "8086", "10ca", "", "", "0000:01:00.0", "vfio3")
    assert bridge == PciState("0000:00:00.0", "", "", "", "", "")


def test_a_folder_that_is_not_there_is_told(agent):
    with pytest.raises(AgentError) as error:
        agent.ask("snapshot", folder="/nonexistent")
    assert error.value.tail == "there is no /nonexistent"
