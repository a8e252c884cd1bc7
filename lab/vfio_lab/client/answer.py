"""An agent's answer: a JSON object whose fields have the types that the lab expects."""

from __future__ import annotations

import json
import signal
from typing import Any

from vfio_lab.errors import AgentError

TEXTS = ("data", "text", "stdout", "stderr", "error")
NUMBERS = ("id", "pid", "value", "errno", "now_ns", "log_us")
LISTS = {"out": str, "names": str, "records": str, "pids": int, "functions": dict, "files": dict}
HEX = ("data", "out")


class Answer(dict[str, Any]):
    """The fields of an answer; a missing field is an error of the agent."""

    def __missing__(self, name: str) -> Any:
        """Raise an error that names the field that is missing.

        Raises:
            AgentError: always.
        """
        raise AgentError(
            "the agent's answer is not complete",
            expected=f"a field {name!r}",
            seen=repr(dict(self)),
        )

    @property
    def signal(self) -> signal.Signals | None:
        """The signal whose number the value is, None for 0.

        Raises:
            AgentError: there is no such signal.
        """
        try:
            return signal.Signals(self["value"]) if self["value"] else None
        except ValueError as error:
            raise AgentError("the agent names no signal", seen=str(error)) from error


def parse_answer(line: bytes) -> Answer | None:
    """Return the answer in a line, None if the line is no answer."""
    try:
        message = json.loads(line.decode(errors="replace"))  # names need not be UTF-8
        well = isinstance(message, dict) and all(_well_formed(*each) for each in message.items())
    except (ValueError, TypeError, RecursionError):
        return None
    return Answer(message) if well else None


def _well_formed(name: str, value: object) -> bool:
    if name in HEX:
        for part in value if isinstance(value, list) else [value]:
            bytes.fromhex(part)  # type: ignore[arg-type]  # a wrong type raises the error that is caught here
    if name in TEXTS:
        return isinstance(value, str)
    if name in NUMBERS:
        return isinstance(value, int)
    if name == "exit":
        return value is None or isinstance(value, int)
    if name in LISTS:
        return isinstance(value, list) and all(isinstance(one, LISTS[name]) for one in value)
    return True
