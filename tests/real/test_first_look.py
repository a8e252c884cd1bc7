"""A first verdict on a distribution's kernel, which is fetched and booted."""

from vfio_lab.campaign import first_look
from vfio_lab.util.cache import Cache
from vfio_lab.util.deadline import Deadline, wait_until

FIRST_VERDICT_S = 300.0


def test_a_look_shows_a_verdict_and_ends_with_what_it_waits_for(monkeypatch, tmp_path):
    said: list[str] = []
    monkeypatch.setattr(first_look, "say", said.append)
    cache = Cache.default()
    with first_look.first_look("7.3", cache, tmp_path / "look"):
        wait_until(
            "a first verdict",
            lambda: any("First verdict" in line for line in said),
            Deadline.after(FIRST_VERDICT_S),
        )
    assert "It has no VFIO_NOIOMMU" in said[-1]
