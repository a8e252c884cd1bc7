"""Templates: what makes two of them the same."""

from pathlib import Path

from vfio_lab.machine.template import wherever


def test_a_copied_cache_has_the_same_templates():
    here, there = Path("/home/a/.cache/vfio-lab"), Path("/srv/b")
    lines = [
        ["qemu", "-kernel", f"{root}/kernel/k/bzImage", "-append", "ro"] for root in (here, there)
    ]
    assert wherever(here, lines[0]) == wherever(there, lines[1])
    assert wherever(here, lines[0]) != wherever(here, [*lines[0][:-1], "rw"])
