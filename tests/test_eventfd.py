import pytest

from vfio_lab.client.call import Refusal
from vfio_lab.client.eventfd import Eventfd


def test_an_eventfd_counts_its_rings_and_forgets_them_when_asked(user):
    irq_fd = Eventfd(user)
    assert irq_fd.count() == 0
    irq_fd.ring()
    irq_fd.ring(2)
    assert irq_fd.wait() == 3
    assert irq_fd.count() == 0


def test_a_closed_eventfd_cannot_be_rung(user):
    irq_fd = Eventfd(user)
    irq_fd.close()
    with pytest.raises(Refusal):
        irq_fd.ring()
