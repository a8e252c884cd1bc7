"""A user's memory in the kernel's books, on this very machine."""

import mmap
import os
from pathlib import Path

import pytest

from vfio_lab.client.memory import PAGE_BYTES, physical_address, pinned_bytes
from vfio_lab.errors import UsageError

FRAME_FLAGS = Path("/proc/kpageflags")


@pytest.fixture
def pages(user):
    """Address of two pages of a user who may ask where they are."""
    if os.geteuid() or not FRAME_FLAGS.exists():
        pytest.skip("needs to be root on a kernel that tells page frames")
    return user.allocate(2 * PAGE_BYTES)


def test_pages_are_those_of_this_machine():
    assert PAGE_BYTES == mmap.PAGESIZE


def test_an_address_keeps_its_offset_in_the_page(user, pages):
    user.poke(pages, b"here")
    start = physical_address(user, pages)
    assert start % PAGE_BYTES == 0
    assert physical_address(user, pages + 5) == start + 5


def test_another_may_ask(agent, user, pages):
    user.poke(pages, b"here")
    assert physical_address(user, pages, asker=agent.user()) == physical_address(user, pages)


def test_two_pages_are_in_two_places(user, pages):
    user.poke(pages, b"one")
    user.poke(pages + PAGE_BYTES, b"two")
    assert physical_address(user, pages) != physical_address(user, pages + PAGE_BYTES)


def test_an_untouched_page_is_nowhere(user, pages):
    with pytest.raises(UsageError, match="cannot tell where"):
        physical_address(user, pages)


def test_nothing_is_pinned_that_nobody_pinned(user):
    assert pinned_bytes(user) == 0
