"""What is shown of a value in a failing assert: a line at most."""

from dataclasses import replace

import pytest

from vfio_lab.client.call import Buffer, CommandResult
from vfio_lab.hw.catalogue import TOPOLOGIES
from vfio_lab.hw.pci import Bdf

LONGEST = 120
IGB = TOPOLOGIES["igb"]
SAID = CommandResult(("lspci", "-vvv"), 1, "many\n" * 100, "lspci: the last line\n")


@pytest.mark.parametrize("topology", TOPOLOGIES.values(), ids=repr)
def test_hardware_is_shown_by_its_name(topology):
    assert repr(topology) == f"Topology({topology.name})"
    assert max(len(repr(one)) for one in topology.functions) < LONGEST


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (Bdf(0, 1, 0x10, 2), "Bdf(0000:01:10.2)"),
        (IGB.function("pf0"), "Function(pf0: igb at 0000:01:00.0)"),
        (replace(IGB, name="own"), "Topology(own)"),
        (SAID, "lspci -vvv: exit 1: 'lspci: the last line'"),
        (Buffer(bytes(4096)), f"Buffer(4096 bytes: {'0' * 57}...)"),
    ],
    ids=lambda one: type(one).__name__,
)
def test_a_value_is_shown_in_a_line(value, shown):
    assert repr(value) == shown


def test_a_pending_call_shows_what_it_returned(shared_agent):
    user = shared_agent.user("caller")
    call = user.start("close", 4711)
    with pytest.raises(OSError, match="EBADF"):
        call.wait()
    assert call.returned
    assert repr(call) == "caller: close(0x1267) = EBADF"
    assert repr(user.start("poll", 0, 0, 10)).endswith("has not returned")
    assert repr(user) == f"User(caller, pid {user.pid})"
    assert repr(user.channel) == "Channel(agent)"
