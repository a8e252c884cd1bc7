"""What the words of a change say about scenarios, where the lines that they run say nothing.

A line that every scenario runs is best judged by those whose names and claims speak of it. Words
are compared by their first letters, so that `restored` and `restore` are one; a word that few
scenarios use says more than one that many use.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping

from vfio_lab.kernels import csource
from vfio_lab.kernels.csource import FileChange
from vfio_lab.spec.claims import load_claims
from vfio_lab.spec.scenarios import scenario_catalogue

WORD = re.compile(r"[A-Z]?[a-z]{2,}|[A-Z]{3,}")
LETTERS = 5


def shared_words(changes: Iterable[FileChange], nodeids: Iterable[str]) -> Mapping[str, float]:
    """Return how much the changed lines have in common with what each scenario is about.

    Args:
        changes: the files that a patch changes.
        nodeids: the scenarios.
    """
    about = {name: _words(_about(name)) for name in {_without(one) for one in nodeids}}
    users = Counter(word for words in about.values() for word in words)
    weight = {word: math.log(len(about) / count) for word, count in users.items()}
    asked = _words(" ".join(text for change in changes for text in _changed(change)))
    return {name: sum(weight[word] for word in asked & words) for name, words in about.items()}


def _without(nodeid: str) -> str:
    return nodeid.partition("[")[0]


def _about(nodeid: str) -> str:
    """Return a scenario's name and sentence, and its claims with the functions that they name."""
    scenario, claims = scenario_catalogue().get(nodeid), load_claims()
    if scenario is None:
        return nodeid
    cited = [claims[one] for one in scenario.claims if one in claims]
    return " ".join([nodeid, scenario.sentence, *(f"{one.sentence} {one.source}" for one in cited)])


def _changed(change: FileChange) -> Iterable[str]:
    """Yield the changed lines, and the names of the functions that they are in."""
    functions = csource.functions(change.before or "")
    for hunk in csource.hunks(change):
        yield from (*hunk.removed, *hunk.added)
        yield from (one.name for one in functions if one.first <= hunk.first <= one.last)


def _words(text: str) -> set[str]:
    return {word.lower()[:LETTERS] for word in WORD.findall(text)}
