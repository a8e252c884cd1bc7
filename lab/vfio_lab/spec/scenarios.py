"""The scenarios and the claims that they cite, read from their source without running anything."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from vfio_lab.errors import HostError
from vfio_lab.util import resources
from vfio_lab.util.extensions import join
from vfio_lab.util.project import current_project, once_a_project

PROJECT = resources.root()
FOLDER = PROJECT / "scenarios"


@dataclass(frozen=True)
class Scenario:
    """A scenario as written in its source.

    Args:
        nodeid: pytest's node ID, without parameters.
        sentence: the first line of the docstring.
        claims: the IDs of the claims that it cites.
    """

    nodeid: str
    sentence: str
    claims: tuple[str, ...]


def home() -> tuple[Path, Path]:
    """Return the root folder and the scenarios folder of the current project, or of the lab.

    Commands run these scenarios. Node IDs are relative to the root folder.
    """
    project = current_project()
    return (PROJECT, FOLDER) if project is None else (project.root, project.scenarios)


@once_a_project
def scenario_catalogue() -> Mapping[str, Scenario]:
    """Return the lab's scenarios and the project's, by node ID.

    Raises:
        HostError: the lab's scenarios are missing.
        UsageError: two scenarios have one node ID.
    """
    if not FOLDER.is_dir():
        raise HostError(
            f"there are no scenarios in {FOLDER}",
            expected="test_*.py",
            hint="install the lab with `make setup`",
        )
    places = dict.fromkeys([(PROJECT, FOLDER), home()])
    return join("scenario", [(folder, _scenarios(root, folder)) for root, folder in places])


def _scenarios(root: Path, folder: Path) -> dict[str, Scenario]:
    found = {}
    for path in sorted(folder.rglob("test_*.py")):
        tree = ast.parse(path.read_text("utf-8"), str(path))
        for node in tree.body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test"):
                sentence, *_ = (ast.get_docstring(node) or node.name).splitlines()
                nodeid = f"{path.relative_to(root).as_posix()}::{node.name}"
                found[nodeid] = Scenario(nodeid, sentence, tuple(cited_claims(node)))
    return found


def scenario_sentence(nodeid: str) -> str:
    """Return what a scenario shows, empty for one that is not there any more.

    Args:
        nodeid: pytest's node ID, parameters included.
    """
    name, known = nodeid.partition("[")[0], scenario_catalogue()
    return known[name].sentence if name in known else ""


@once_a_project
def by_claim() -> Mapping[str, tuple[str, ...]]:
    """Return the node IDs of the scenarios that cite each claim.

    Raises:
        HostError: the lab's scenarios are missing.
        UsageError: two scenarios have one node ID.
    """
    found: defaultdict[str, list[str]] = defaultdict(list)
    for scenario in scenario_catalogue().values():
        for claim in scenario.claims:
            found[claim].append(scenario.nodeid)
    return {claim: tuple(nodeids) for claim, nodeids in found.items()}


def cited_claims(function: ast.FunctionDef) -> list[str]:
    """Return the claim IDs in a scenario's decorators, including the marks of its parameters."""
    ids = [name for decorator in function.decorator_list for name in _ids(decorator)]
    return list(dict.fromkeys(ids))


def _ids(decorator: ast.expr) -> Iterator[str]:
    for call in ast.walk(decorator):
        if isinstance(call, ast.Call) and ast.unparse(call.func).rpartition(".")[2] == "claim":
            for argument in call.args:
                if isinstance(argument, ast.Constant):
                    yield str(argument.value)
