"""`vfio-lab init`: create a new project."""

from __future__ import annotations

import re
from pathlib import Path

import click

from vfio_lab.errors import UsageError

STARTER = Path(__file__).parent / "starter"
SUFFIX = ".in"
AREA_LETTERS = 3


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--ci",
    "service",
    type=click.Choice(["github", "gitlab"]),
    help="Write the file that makes this service run the scenarios; DIR may be a project.",
)
def init(folder: Path, service: str | None) -> None:
    """Create a project in DIR: a topology, a claim, a scenario that proves it, and a CI job."""
    from vfio_lab.cli.ci_files import write_ci_file

    folder = folder.absolute()
    made = [] if service and _is_used(folder) else make_project(folder)
    if service:
        made.append(write_ci_file(folder, service))
    for path in made:
        click.echo(path.relative_to(folder))
    if len(made) > 1:
        click.echo(f"now run `pytest` in {folder}; docs/project.md says what to change")


def make_project(folder: Path) -> list[Path]:
    """Write the files of a new project and return their paths.

    Raises:
        UsageError: the folder is not empty, or its name is not suitable for a package.
    """
    if _is_used(folder):
        raise UsageError(f"{folder} is not empty", expected="a new folder, or an empty one")
    words = names(folder.name)
    made = []
    for source in sorted(path for path in STARTER.rglob(f"*{SUFFIX}") if path.is_file()):
        text, place = source.read_text("utf-8"), str(source.relative_to(STARTER))
        for word, meaning in words.items():
            text, place = text.replace(word, meaning), place.replace(word, meaning)
        path = folder / place.removesuffix(SUFFIX)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
        path.chmod(0o755 if text.startswith("#!") else 0o644)
        made.append(path)
    return made


def names(folder: str) -> dict[str, str]:
    """Return the replacements of NAME, DASHED and AREA in the files of a project.

    Raises:
        UsageError: the folder's name is not suitable for a package.
    """
    package = re.sub(r"\W+", "_", folder, flags=re.ASCII).strip("_").lower()
    letters = re.sub(r"[^A-Z]", "", package.upper())[:AREA_LETTERS]
    if not package.isidentifier() or len(letters) < AREA_LETTERS - 1:
        raise UsageError(
            f"{folder!r} makes no name for a package",
            expected="letters, digits, - and _, two letters at least, no digit first",
        )
    if package in ("scenarios", "vfio_lab", "vfio_lab_pytest"):
        raise UsageError(
            f"{folder!r} makes no name for a package", seen=f"there is a package {package} already"
        )
    return {"NAME": package, "DASHED": package.replace("_", "-"), "AREA": letters}


def _is_used(folder: Path) -> bool:
    return folder.exists() and any(folder.iterdir())
