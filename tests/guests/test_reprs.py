"""Does a failing assert on anything that a scenario has at hand print a line, or kilobytes?"""

import pytest

LONGEST = 120
AT_HAND = (
    *("guest", "guest_factory", "machine", "topology", "root", "user", "pf_user"),
    *("pf", "vf", "vfs", "device", "mappings", "config", "hardware", "registers"),
    *("irq_fd", "loopback"),
)


@pytest.fixture
def user(guest):
    """The plugin's, not that of tests/conftest.py."""
    return guest.user("user")


def too_long(words):
    return len(words) > LONGEST or "\n" in words


def test_nothing_at_hand_is_shown_in_more_than_a_line(request):
    """Neither a fixture's value, nor what one asks it for."""
    guest = request.getfixturevalue("guest")
    things = {name: request.getfixturevalue(name) for name in AT_HAND}
    things |= {name: getattr(guest, name) for name in ("channel", "qemu", "qmp", "login", "ssh")}
    things["a function"] = guest.machine.topology.function("pf0")
    things["a command"] = guest.root.run("dmesg")
    things["a kernel"] = guest.machine.kernel
    assert {name: repr(one) for name, one in things.items() if too_long(repr(one))} == {}


def test_a_call_that_returned_is_shown_with_its_result(guest):
    """In a failing `assert guest.is_blocked(call)`, too."""
    call = guest.user("caller").start("close", 4711)
    assert not guest.is_blocked(call)
    assert repr(call) == "caller: close(0x1267) = EBADF"


def test_a_call_that_has_not_returned_says_so(guest):
    """Until it does."""
    call = guest.user("caller").start("poll", 0, 0, 3_600_000)
    assert repr(call) == "caller: poll(0x0, 0x0, 0x36ee80) has not returned"
