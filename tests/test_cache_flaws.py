"""A damaged entry of the cache is made anew, and it is told once what was wrong with it."""

import pytest
from test_cache import DAMAGE, KEY, KIND, cache, fill, sealed

__all__ = ["cache"]
FLAWS = {
    "truncated": "data has 2 bytes, not 5",
    "edited": "data has another content than when it was made",
    "missing file": "data is missing",
    "extra file": "folder/extra does not belong there",
    "garbled manifest": "manifest.json cannot be read",
}


@pytest.mark.parametrize("kind", FLAWS)
def test_it_is_told_once_which_file_was_damaged_and_how(cache, capsys, kind):
    entry = sealed(cache)
    DAMAGE[kind](entry)
    cache.obtain(KIND, KEY, fill)
    cache.obtain(KIND, KEY, fill)
    told = [line for line in capsys.readouterr().err.splitlines() if "was damaged" in line]
    assert len(told) == 1
    assert f"{KIND} {KEY} was damaged and is made anew: {FLAWS[kind]}" in told[0]
    assert str(entry) in told[0]


def test_what_was_not_there_is_made_without_a_word(cache, capsys):
    cache.obtain(KIND, KEY, fill)
    assert capsys.readouterr().err == ""
