"""Kernel configuration fragments: requested options, reasons, and a check of the result.

A fragment line is `CONFIG_NAME=value  # reason`. The reason may begin with the series that have
the option: `# since 6.6: reason`, `# until 6.1: reason`, `# since 6.2, until 6.12: reason`.
kconfig silently drops options that it cannot grant, so the result is always checked.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from vfio_lab.arch import X86_64
from vfio_lab.errors import BuildError, UsageError

Series = tuple[int, ...]

LINE = re.compile(r'CONFIG_(?P<name>\w+)=(?P<value>"[^"]*"|[^\s"#]+)\s*(?:#\s*(?P<reason>.*))?$')
MARKS = re.compile(
    r"(?:since (?P<since>\d+\.\d+))?(?:, )?(?:until (?P<until>\d+\.\d+))?:\s+(?P<rest>.*)$"
)
SYMBOL = re.compile(rb"^[ \t]*(?:menu)?config[ \t]+(\w+)", re.MULTILINE)
SET = re.compile(r"CONFIG_(\w+)=(.*)$")
UNSET = re.compile(r"# CONFIG_(\w+) is not set$")


def series(text: str) -> Series:
    """Return `6.12` or `6.12.107` as a tuple, which compares like a version."""
    return tuple(int(part) for part in text.split("."))


@dataclass(frozen=True)
class Option:
    """A line of a fragment.

    Args:
        name: the option's name, without `CONFIG_`.
        value: the value as written: `y`, `m`, `n`, a number, or a quoted string.
        reason: why the lab asks for it.
        where: the fragment and line number.
        since: first series that has the option.
        until: last series that has the option.
    """

    name: str
    value: str
    reason: str
    where: str
    since: Series | None = None
    until: Series | None = None

    def applies(self, to: Series) -> bool:
        """Return whether a series has the option, by the line's own marks."""
        short = to[:2]
        return (self.since is None or self.since <= short) and (
            self.until is None or short <= self.until
        )


def parse(text: str, name: str) -> tuple[Option, ...]:
    """Return the options of a fragment.

    Args:
        text: the fragment's content.
        name: the fragment's name in errors.

    Raises:
        BuildError: a line is malformed or has no reason.
    """
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        found.append(_option(line, f"{name}:{number}"))
    return tuple(found)


def _option(line: str, where: str) -> Option:
    match = LINE.match(line)
    if match is None:
        raise BuildError(
            f"{where} is no configuration line",
            expected="CONFIG_NAME=value  # reason",
            seen=line,
        )
    reason = match["reason"] or ""
    since = until = None
    marks = MARKS.match(reason)
    if marks is not None and (marks["since"] or marks["until"]):
        since = series(marks["since"]) if marks["since"] else None
        until = series(marks["until"]) if marks["until"] else None
        reason = marks["rest"]
    elif re.match(r"(since|until)\b", reason):
        raise BuildError(f"{where} has a mark that cannot be read", seen=reason)
    if not reason.strip():
        raise BuildError(f"{where} asks for CONFIG_{match['name']} without a reason", seen=line)
    return Option(match["name"], match["value"], reason.strip(), where, since, until)


def merge_options(
    base: Iterable[Option], flavour: Iterable[Option], to: Series
) -> tuple[Option, ...]:
    """Return the options to request for a kernel of a series, sorted by name.

    Args:
        base: the options of every kernel; each may be requested once only.
        flavour: further options, which may override the base.
        to: the series.

    Raises:
        BuildError: two lines of one layer request the same option.
    """
    chosen: dict[str, Option] = {}
    for layer in (base, flavour):
        seen: dict[str, Option] = {}
        for option in layer:
            if not option.applies(to):
                continue
            if option.name in seen:
                raise BuildError(
                    f"CONFIG_{option.name} is asked for twice",
                    seen=f"{seen[option.name].where} and {option.where}",
                )
            seen[option.name] = option
        chosen |= seen
    return tuple(chosen[name] for name in sorted(chosen))


def seed(options: Iterable[Option]) -> str:
    """Return the text of a file for `KCONFIG_ALLCONFIG`."""
    lines = (
        f"# CONFIG_{option.name} is not set"
        if option.value == "n"
        else f"CONFIG_{option.name}={option.value}"
        for option in options
    )
    return "".join(f"{line}\n" for line in lines)


def read_config(text: str) -> dict[str, str]:
    """Return the options of a finished `.config`; options that are not set are `n`."""
    values = {}
    for line in text.splitlines():
        if (match := SET.match(line)) is not None:
            values[match[1]] = match[2]
        elif (match := UNSET.match(line)) is not None:
            values[match[1]] = "n"
    return values


def read_fragment(path: Path) -> tuple[Option, ...]:
    """Return the options of a user's fragment, in the format of `.config`.

    Raises:
        UsageError: it cannot be read, or has a line that is neither an option nor a comment.
    """
    try:
        lines = path.read_text().splitlines()
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read the configuration {path}", seen=str(error)) from error
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.startswith("#") and SET.match(line) is None:
            raise UsageError(
                f"{path}:{number} is no configuration line", expected="CONFIG_NAME=value", seen=line
            )
    values = read_config("\n".join(line.rstrip() for line in lines))
    return tuple(Option(name, value, "", str(path)) for name, value in values.items())


def config_symbols(tree: Path, architecture: str = X86_64.kernel) -> frozenset[str]:
    """Return the names of all options that a source tree defines for an architecture."""
    foreign = [
        path for path in (tree / "arch").iterdir() if path.is_dir() and path.name != architecture
    ]
    names: set[str] = set()
    for path in tree.rglob("Kconfig*"):
        if path.is_file() and not any(path.is_relative_to(other) for other in foreign):
            names |= {name.decode() for name in SYMBOL.findall(path.read_bytes())}
    return frozenset(names)


def check_config(
    asked: Iterable[Option],
    unasked: Iterable[Option],
    final: Mapping[str, str],
    known: frozenset[str],
) -> None:
    """Compare a finished configuration with the requested options.

    Args:
        asked: the merged options.
        unasked: options that are not requested, because of their marks for other series.
        final: the finished configuration.
        known: all options that the source tree defines.

    Raises:
        BuildError: options were not granted, or marks are wrong; names all of them.
    """
    complaints = []
    for option in asked:
        got = final.get(option.name, "n")
        if option.name not in known:
            complaints.append(f"{option.where}: CONFIG_{option.name} does not exist here")
        elif got != option.value:
            complaints.append(
                f"{option.where}: CONFIG_{option.name}={option.value} became {got}"
                " (what it depends on is missing, or another option forces it)"
            )
    # kconfig leaves out options that cannot be enabled, because the series lacks the option or one
    # of its dependencies.
    complaints += [
        f"{option.where}: CONFIG_{option.name} could be had here, against its mark"
        for option in unasked
        if option.name in final
    ]
    if complaints:
        raise BuildError(
            "the kernel's configuration is not the one that was asked for",
            seen="; ".join(complaints),
            hint="mark options that come or go with a series: `# since 6.6: reason`",
        )
