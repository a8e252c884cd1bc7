"""Which scenario proves which claim, read from the scenarios' source without running anything."""

from __future__ import annotations

import ast
import functools
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from vfio_lab.errors import HostError
from vfio_lab.util import resources

PROJECT = resources.root()
FOLDER = PROJECT / "scenarios"


@dataclass(frozen=True)
class Scenario:
    """A scenario as its source has it.

    Args:
        nodeid: pytest's name of it, without parameters.
        sentence: first line of its docstring.
        claims: IDs of the claims that it cites.
    """

    nodeid: str
    sentence: str
    claims: tuple[str, ...]


@functools.cache
def scenario_catalogue(folder: Path = FOLDER) -> Mapping[str, Scenario]:
    """Return all scenarios by node ID.

    Args:
        folder: the scenarios' folder.

    Raises:
        HostError: the scenarios are not beside the library.
    """
    if not folder.is_dir():
        raise HostError(
            f"there are no scenarios in {folder}",
            expected="test_*.py",
            hint="install the lab with `make setup`",
        )
    found = {}
    for path in sorted(folder.rglob("test_*.py")):
        tree = ast.parse(path.read_text(), str(path))
        place = path.relative_to(folder.parent).as_posix()
        for node in tree.body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test"):
                sentence, *_ = (ast.get_docstring(node) or node.name).splitlines()
                nodeid = f"{place}::{node.name}"
                found[nodeid] = Scenario(nodeid, sentence, tuple(cited_claims(node)))
    return found


@functools.cache
def by_claim(folder: Path = FOLDER) -> Mapping[str, tuple[str, ...]]:
    """Return the node IDs of the scenarios that cite each claim; raises as `catalogue` does."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for scenario in scenario_catalogue(folder).values():
        for claim in scenario.claims:
            found[claim].append(scenario.nodeid)
    return {claim: tuple(nodeids) for claim, nodeids in found.items()}


def cited_claims(function: ast.FunctionDef) -> list[str]:
    """Return the claim IDs in a scenario's decorators, in the marks of its parameters too."""
    ids = [name for decorator in function.decorator_list for name in _ids(decorator)]
    return list(dict.fromkeys(ids))


def _ids(decorator: ast.expr) -> Iterator[str]:
    for call in ast.walk(decorator):
        if isinstance(call, ast.Call) and ast.unparse(call.func).rpartition(".")[2] == "claim":
            for argument in call.args:
                if isinstance(argument, ast.Constant):
                    yield str(argument.value)
