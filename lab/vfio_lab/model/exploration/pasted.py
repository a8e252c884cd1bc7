"""A disagreement as a scenario that can be pasted into a file and run."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from vfio_lab.client.call import name_of
from vfio_lab.model.exploration.performer import (
    CLOSED_FD,
    FEATURE_FLAGS,
    FIRST_IOVA,
    FIRST_SPACE,
    MALFORMED,
    MARK,
    MARK_OFFSET,
    NAMES,
    PAGE_BYTES,
    PARAMETERS,
    TOKENS,
    UNKNOWN_PT,
)
from vfio_lab.model.exploration.steps import ROOT, Result, Step, take
from vfio_lab.model.exploration.trial import LEFTOVERS, Disagreement
from vfio_lab.model.exploration.walk import CLOSED, USERS
from vfio_lab.model.state import VFIO, State
from vfio_lab.uapi.syscalls import CAP_SYS_RAWIO

INDENT = "    "
# Imports, each with what it is needed for.
IMPORTS = (
    ("import uuid", r"\buuid\."),
    ("import pytest", r"\bpytest\."),
    ("from vfio_lab.vfio import Cdev", r"\bCdev\("),
    ("from vfio_lab.vfio import Container", r"\bContainer\("),
    ("from vfio_lab.vfio import Iommufd", r"\bIommufd\("),
    ("from vfio_lab_pytest.verdicts import refused", r"\brefused\("),
)
# The line of each step.
LINES = {
    "bind": '{function}.bind("{driver}")',
    "unbind": "{function}.unbind()",
    "set_numvfs": '{function}.write("sriov_numvfs", {count})',
    "set_parameter": 'guest.root.write_file("{path}", "{on}")',
    "open_container": "Container({user})",
    "open_iommufd": "Iommufd({user})",
    "open_group": "{user}.open_group({function})",
    "open_cdev": "Cdev({user}, {function}.cdev, str({function}))",
    "set_container": "{group}.set_container({file})",
    "unset_container": "{group}.unset_container()",
    "set_iommu": "{container}.set_iommu({type})",
    "check_extension": "{container}.check_extension({type})",
    "get_status": "{group}.get_status({only})",
    "get_device": "{group}.get_device_fd({words})",
    "bind_iommufd": "{device}.bind_iommufd({iommufd}, {token}{wrong})",
    "dup": "{file}.dup()",
    "close": "{file}.close()",
    "kill": "{user}.kill()",
    "get_info": "{device}.get_info({only})",
    "reset": "{device}.reset()",
    "write_mark": '{device}.write_region(0, {at:#x}, bytes.fromhex("{mark}"))',
    "read_mark": "{device}.read_region(0, {at:#x}, 4)",
    "token_feature": "{device}.feature(0, {flags}, {token}.bytes[:{size}])",
    "attach_space": "{device}.attach_iommufd_pt({space}{wrong})",
    "detach_space": "{device}.detach_iommufd_pt({only})",
    "map_dma": "{container}.map_dma({user}.allocate(4096), {iova}{wrong})",
    "unmap_dma": "{container}.unmap_dma({iova}{wrong})",
    "hot_reset_info": "{device}.hot_reset_info({only})",
    "hot_reset": "{device}.hot_reset([{files}]{wrong})",
}
# How the last step's facts are asked for, by the name of the fact; `it` is what the call returned.
ASKED = {
    "flags": "it.flags",
    "regions": "it.num_regions",
    "irqs": "it.num_irqs",
    "offered": "it",
    "marked": f"it == bytes.fromhex({MARK.hex()!r})",
    "pages": f"it // {PAGE_BYTES}",
    "groups": 'sum(name.isdigit() for name in guest.root.listdir("/dev/vfio"))',
    "noiommu groups": 'sum("noiommu" in name for name in guest.root.listdir("/dev/vfio"))',
    "cdevs": 'sum(name[0] == "v" for name in guest.root.listdir("/dev/vfio/devices"))',
    "noiommu cdevs": 'sum(name[0] == "n" for name in guest.root.listdir("/dev/vfio/devices"))',
    "tainted": "6 in guest.taints()",
}


def scenario(start: State, found: Disagreement, topology: str) -> str:
    """Return the source of a scenario that fails where the disagreement is.

    Args:
        start: the state that its walk began with.
        found: the disagreement.
        topology: the name of the guest's hardware.
    """
    body = [INDENT + line for line in _body(start, found)]
    used = {name: token for name, token in TOKENS.items() if re.search(rf"\b{name}\b", str(body))}
    text = "\n".join(
        [
            *[f'{name} = uuid.UUID("{token}")' for name, token in used.items()],
            "",
            "",
            f'@pytest.mark.topology("{topology}")',
            "def test_what_exploration_found(guest):",
            f'{INDENT}"""Expected {found.expected}, but {found.seen}."""',
            *body,
        ]
    )
    names = sorted(set(re.findall(r"refused\((E\w+)\)", text)))
    errnos = [f"from errno import {', '.join(names)}"] if names else []
    imports = [line for line, needed in IMPORTS if re.search(needed, text)]
    return "\n".join([*errnos, *imports, "", text, ""]).replace("\n\n\n\n", "\n\n\n")


def _body(start: State, found: Disagreement) -> Iterator[str]:
    users = {step.user for step in found.steps} - {ROOT}
    for name in sorted(users):
        drop = "" if USERS[name] else f", drop=[{CAP_SYS_RAWIO}]"
        yield f'{name} = guest.user("{name}"{drop})'
    for role in sorted(role for role in start.functions if _named(role, found.steps)):
        yield f'{role} = guest.function("{role}")'
    drivers = sorted({str(step.given["driver"]) for step in found.steps if "driver" in step.given})
    for driver in drivers:
        if driver != VFIO:
            yield f'guest.load("{driver}")'
    state = start
    for step in found.steps:
        expected, state = take(state, step)
        yield from _lines(step, expected)
        if step.given.get("count") and not expected.errno:
            vfs = state.platform.vfs(step.given["function"], step.given["count"])
            yield f"[{', '.join(map(variable, vfs))}] = {step.given['function']}.vfs()"
    if found.kind == LEFTOVERS:
        yield f"# {found.seen}"
    if not found.kind and not expected.errno:
        yield from _asserts(expected)


def _named(role: str, steps: Sequence[Step]) -> bool:
    return any(str(step.given.get("function", "")).startswith(role) for step in steps)


def variable(name: str) -> str:
    """Return the name of a function or descriptor as that of a variable."""
    return name.replace(".", "_")


def _lines(step: Step, expected: Result) -> Iterator[str]:
    line = call(step)
    if expected.errno:
        yield f"with refused({name_of(expected.errno)}):"
        yield f"{INDENT}{line}"
        return
    new = step.given.get("new")
    value = new or ("it" if expected.facts and step.user != ROOT else "")
    yield f"{value} = {line}" if value else line
    if step.call == "open_iommufd":
        yield f"{new}.ioas_alloc()"
    if step.call == "kill":
        yield f'{step.user} = guest.user("{step.user}")'


def _asserts(expected: Result) -> Iterator[str]:
    for name, value in expected.facts.items():
        if name in ASKED:
            yield f"assert ({ASKED[name]}) == {value!r}"
        elif name == "drivers" and isinstance(value, dict):
            for role, driver in value.items():
                yield f"assert {variable(role)}.driver == {driver!r}"
        elif name == "devices" and isinstance(value, dict):
            yield f"assert it.bdfs == {{{', '.join(f'str({variable(role)})' for role in value)}}}"


def call(step: Step) -> str:
    """Return the line that takes a step."""
    words: dict[str, Any] = {name: _word(value) for name, value in step.given.items()} | {
        "user": step.user
    }
    wrong = MALFORMED.get(step.call, {}).get(str(step.given.get("way")), {})
    match step.call:
        case "get_device":
            words["words"] = _name(step)
        case "get_status":
            wrong = {"argsz": words["argsz"]} if step.given.get("argsz") else {}
        case "set_parameter":
            words |= {"path": PARAMETERS[words["name"]], "on": "Y" if step.given["on"] else "N"}
        case "token_feature":
            size = 15 if step.given["way"] == "short" else 16
            words |= {"flags": f"{FEATURE_FLAGS[words['way']]:#x}", "size": str(size)}
        case "attach_space":
            words["space"] = str(UNKNOWN_PT if words["way"] == "unknown" else FIRST_SPACE)
        case "map_dma" | "unmap_dma":
            words["iova"] = f"{FIRST_IOVA + step.given['page'] * PAGE_BYTES:#x}"
            wrong = {"size": PAGE_BYTES, **wrong}
    keywords = ", ".join(f"{name}={value}" for name, value in wrong.items())
    words |= {"at": MARK_OFFSET, "mark": MARK.hex()}
    words |= {"only": keywords, "wrong": f", {keywords}" if keywords else ""}
    return LINES[step.call].format(**words)


def _word(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(_word, value))
    return str(CLOSED_FD) if value == CLOSED else variable(str(value))


def _name(step: Step) -> str:
    """Return the string for VFIO_GROUP_GET_DEVICE_FD, as an expression."""
    function, token = variable(step.given["function"]), step.given["token"]
    shown = NAMES[step.given["name"]].replace("\t", "\\t").replace("{0}", f"{{{token}}}")
    return f'f"{{{function}}}{shown.replace("{1}", f"{{str({token}).upper()}}")}"'
