"""The file that makes a CI service run a project's scenarios."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

from vfio_lab.errors import UsageError
from vfio_lab.util import host, project

TEMPLATES = Path(__file__).parent / "ci"
PLACES = {"github": Path(".github/workflows/vfio-lab.yml"), "gitlab": Path(".gitlab-ci.yml")}
IMAGE = "debian"  # what the jobs run in, a section of images/hosts.toml
UNNEEDED = ("chromium-headless-shell", "fonts")  # only the lab's own tests need them
WIDTH = 100


def write_ci_file(folder: Path, service: str) -> Path:
    """Write the CI file of a project, with one job for each kernel, and return its path.

    Args:
        folder: the folder of the project.
        service: `github` or `gitlab`.

    Raises:
        UsageError: the folder is not a project, or the file exists.
    """
    path = folder / PLACES[service]
    if path.exists():
        raise UsageError(f"{path} exists", expected="no such file", hint="move it away")
    with project.standing_in(folder):
        found = project.current_project()
        if found is None or found.root != folder.resolve():
            raise UsageError(
                f"{folder} is not a project",
                expected="a pyproject.toml with the table [tool.vfio-lab], or an empty folder",
            )
        text = _filled((TEMPLATES / f"{service}.yml").read_text("utf-8"), found)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    return path


def _filled(template: str, found: project.Project) -> str:
    from vfio_lab.kernels.packaged import kernel_catalogue

    kernels = [f'"{name}"' for name in kernel_catalogue().specs if ":" not in name]
    words = {
        "KERNELS": ", ".join(kernels),
        "PACKAGES": " ".join(host.packages_of(IMAGE, UNNEEDED)),
        "LAB": "-e ." if found.is_the_lab else "vfio-lab",
    }
    lines = []
    for line in template.splitlines():
        filled = re.sub(r"@(\w+)@", lambda match: words[match[1]], line)
        indent = " " * (len(line) - len(line.lstrip()))
        wide = "@PACKAGES@" in line
        lines += (
            textwrap.wrap(filled, WIDTH, subsequent_indent=indent, break_on_hyphens=False)
            if wide
            else [filled]
        )
    return "\n".join([*lines, ""])
