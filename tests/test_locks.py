"""Deadlocks are cycles of users that wait for each other."""

from vfio_lab.machine.locks import FILE, LockWait, deadlock


def wait(waiter: str, holder: str | None, kind: str = "mutex") -> LockWait:
    """Return a wait for a lock."""
    return LockWait(waiter, 0xFFFF8881_0000_0000, kind, holder)


def test_users_that_wait_for_each_other_are_a_deadlock() -> None:
    """A cycle is found, and who waits for it from outside is no part of it."""
    cycle = [wait("maker", "remover"), wait("remover", "maker", FILE)]
    assert deadlock([wait("reader", "maker"), *cycle]) == cycle


def test_a_queue_is_no_deadlock() -> None:
    """Users that wait for one who runs, or for a task that is no user, are no cycle."""
    assert deadlock([wait("one", "other"), wait("other", "holder"), wait("third", None)]) == []


def test_a_wait_says_what_is_waited_for_and_who_has_it() -> None:
    """A wait in words names the lock and its holder, or the file and who is in it."""
    assert str(wait("maker", "remover")) == (
        "waits for the mutex ffff888100000000, which remover holds"
    )
    assert str(wait("maker", None)) == "waits for the mutex ffff888100000000, which another holds"
    assert str(wait("remover", "maker", FILE)) == (
        "waits for maker to leave a file that it removes"
    )
