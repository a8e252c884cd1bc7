"""Source trees, most of them git checkouts: their files, their state, their history.

Nothing here writes to a tree.
"""

from __future__ import annotations

import contextlib
import filecmp
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

from vfio_lab.errors import BuildError, UsageError
from vfio_lab.util import host
from vfio_lab.util.process import environment

# A repository's hooks and file system monitor are programs that others wrote.
HARMLESS = (
    *("-c", "safe.directory=*"),
    *("-c", f"core.hooksPath={os.devnull}"),
    *("-c", "core.fsmonitor=false"),
)
IN_PLACE = ("include/config", "include/generated")
# What configuring alone leaves.
LEFTOVER = re.compile(r"(^|/)\.(config(\.old)?|[^/]*\.cmd)$|\.(o|a|ko)$")


def git(tree: Path, *arguments: str, text: str | None = None) -> str:
    """Return what a git command says about a tree.

    Args:
        tree: folder to run it in.
        arguments: of git.
        text: its standard input.

    Raises:
        HostError: there is no git.
        BuildError: it failed.
    """
    host.need("tree")
    command = ["git", "-C", os.fspath(tree), *HARMLESS, *arguments]
    done = subprocess.run(
        command,
        check=False,
        input=text or "",
        capture_output=True,
        text=True,
        errors="replace",
        env=quiet(tree),
    )
    if done.returncode:
        raise BuildError(
            f"cannot run git {arguments[0]} in {tree}",
            seen=done.stderr.strip() or f"exit code {done.returncode}",
        )
    return done.stdout


def has_history(tree: Path) -> bool:
    """Return whether a tree is the top of a git checkout with a commit."""
    return (tree / ".git").exists() and knows(tree, "HEAD")


def knows(tree: Path, commit: str) -> bool:
    """Return whether a tree's repository has a commit."""
    with contextlib.suppress(BuildError):
        git(tree, "rev-parse", "--quiet", "--verify", f"{commit}^{{commit}}")
        return True
    return False


def is_shallow(tree: Path) -> bool:
    """Return whether a tree's history was cut off."""
    return git(tree, "rev-parse", "--is-shallow-repository").strip() == "true"


def tracked_files(tree: Path) -> list[str]:
    """Return the names of a tree's sources, new ones included, what a build left excluded.

    Raises:
        HostError: it is a git checkout, and there is no git.
        UsageError: it was built in place and nothing tells its sources from the rest.
    """
    if (tree / ".git").exists():
        listed = git(tree, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
        return sorted({name for name in listed.split("\0") if os.path.lexists(tree / name)} - {""})
    for name in IN_PLACE:
        if (tree / name).exists():
            raise UsageError(
                f"{tree} was built in place: its sources cannot be told from what the build left",
                seen=name,
                hint=f"make -C {tree} mrproper",
            )
    found = []
    for folder, _folders, names in os.walk(tree):
        place = os.path.relpath(folder, tree)
        found += [os.path.normpath(f"{place}/{name}") for name in names]
    return sorted(name for name in found if not LEFTOVER.search(name))


def stamps(tree: Path, names: Iterable[str]) -> dict[str, str]:
    """Return each file's size and time: they change when it is edited."""
    found = {}
    for name in names:
        stat = (tree / name).lstat()
        found[name] = f"{stat.st_size}:{stat.st_mtime_ns}"
    return found


def mirror_tree(
    tree: Path, tracked_files: Mapping[str, str], target: Path, before: Mapping[str, str]
) -> set[str]:
    """Make `target` hold the same files, as hard links where that can be; return what changed.

    Args:
        tree: where the files are.
        tracked_files: their names and stamps.
        target: where they shall be; other files there stay.
        before: `tracked_files` of the last call; files that are gone since are removed.
    """
    changed = set(before) - set(tracked_files)
    for name in changed:
        (target / name).unlink(missing_ok=True)
    for name, stamp in tracked_files.items():
        source, copy = tree / name, target / name
        if before.get(name) != stamp and not _same(source, copy):
            changed.add(name)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.unlink(missing_ok=True)
            try:
                os.link(source, copy, follow_symlinks=False)
            except OSError:  # another disk, or another user's file
                shutil.copy2(source, copy, follow_symlinks=False)
    return changed


def _same(source: Path, copy: Path) -> bool:
    """Whether a copy is as good as its source, which a checkout may have given another time."""
    if not os.path.lexists(copy) or source.is_symlink() or copy.is_symlink():
        return False
    return filecmp.cmp(source, copy, shallow=False)


def quiet(tree: Path) -> dict[str, str]:
    """Return an environment in which git looks at a tree and at nothing above it."""
    return environment(GIT_CEILING_DIRECTORIES=os.fspath(tree.parent))
