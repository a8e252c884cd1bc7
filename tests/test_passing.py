"""Descriptors that are passed from process to process, on this very machine."""

import pytest

from vfio_lab.client.call import Refusal
from vfio_lab.client.eventfd import Eventfd, wait_any
from vfio_lab.client.passing import pass_descriptor


@pytest.fixture
def receiver(shared_agent):
    """A second user, who shares nothing with the first."""
    receiver = shared_agent.user("receiver")
    yield receiver
    receiver.kill()


def test_a_passed_descriptor_is_of_the_same_file(user, receiver):
    rung = Eventfd(user)
    passed = pass_descriptor(user, rung.fd, receiver)
    receiver.write(passed, (3).to_bytes(8, "little"))
    assert rung.count() == 3


def test_a_passed_descriptor_outlives_the_one_that_was_passed(user, receiver):
    rung = Eventfd(user)
    passed = pass_descriptor(user, rung.fd, receiver)
    rung.close()
    assert receiver.write(passed, (1).to_bytes(8, "little")) == 8


def test_a_closed_descriptor_cannot_be_passed(user, receiver):
    with pytest.raises(Refusal, match="EBADF"):
        pass_descriptor(user, 900, receiver)


def test_waiting_for_any_tells_which_were_rung_and_takes_nothing(user):
    three = [Eventfd(user) for _ in range(3)]
    three[2].ring()
    assert wait_any(three) == [2]
    three[0].ring(5)
    assert wait_any(three) == [0, 2]
    assert [each.count() for each in three] == [5, 0, 1]
    assert wait_any(three, 0) == []
