import pytest

from vfio_lab.client.call import Refusal
from vfio_lab.client.eventfd import Eventfd


def test_an_eventfd_counts_its_rings_and_forgets_them_when_asked(user):
    bell = Eventfd(user)
    assert bell.count() == 0
    bell.ring()
    bell.ring(2)
    assert bell.wait() == 3
    assert bell.count() == 0


def test_a_closed_eventfd_cannot_be_rung(user):
    bell = Eventfd(user)
    bell.close()
    with pytest.raises(Refusal):
        bell.ring()
