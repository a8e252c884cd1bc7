"""Source trees, most of them git checkouts: their files, their state, their history.

No function here writes to a tree.
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
from vfio_lab.util import host, jail
from vfio_lab.util.process import environment

# Settings of a repository that name programs, and what keeps those programs from running. A missing
# object is not fetched either.
HARMLESS = {
    "safe.directory": "*",
    "core.hooksPath": os.devnull,
    "core.fsmonitor": "false",
    "core.sshCommand": "false",
    "gpg.program": "false",
    "log.showSignature": "false",
    "protocol.allow": "never",
    "submodule.recurse": "false",
}
SETTINGS = ("git", "config", "--null", "--list")
DEFAULT_EXCLUDES = "~/.config/git/ignore"
# Commands that only read a repository. They run in a jail, where nothing can be written.
READING = frozenset(
    [
        *("describe", "for-each-ref", "log", "ls-files", "ls-tree"),
        *("merge-base", "rev-list", "rev-parse", "show", "status"),
    ]
)
IN_PLACE = ("include/config", "include/generated")
# Files that `make config` alone leaves behind.
LEFTOVER = re.compile(r"(^|/)\.(config(\.old)?|[^/]*\.cmd)$|\.(o|a|ko)$")


def git(tree: Path, *arguments: str, text: str | None = None) -> str:
    """Return the output of a git command in a tree.

    A repository may name programs in hooks, filters and settings. None of them runs, and a command
    that only reads runs in a jail where this host supports one.

    Args:
        tree: the folder to run it in.
        arguments: git's arguments.
        text: the standard input.

    Raises:
        HostError: there is no git.
        BuildError: it failed.
    """
    host.need("tree")
    settings = _settings(tree)
    command = ["git", *arguments]
    if arguments[0] in READING:
        excludes = Path(settings.get("core.excludesfile", DEFAULT_EXCLUDES)).expanduser()
        visible = [path for path in (tree, *repositories(tree), excludes) if path.exists()]
        command = jail.confine(command, jail.Jail((), tuple(visible)), foreign=False)
    done = subprocess.run(
        command,
        check=False,
        input=text or "",
        capture_output=True,
        text=True,
        errors="replace",
        cwd=tree,
        env=_environment(tree, settings),
    )
    if done.returncode:
        raise BuildError(
            f"cannot run git {arguments[0]} in {tree}",
            seen=done.stderr.strip() or f"exit code {done.returncode}",
        )
    return done.stdout


def repositories(tree: Path) -> list[Path]:
    """Return the folders of a tree's repository and of those whose objects it shares.

    The first is the one that all its worktrees have in common. Outside of a checkout there is none.

    Source: gitrepository-layout(5).
    """
    found = tree / ".git"
    if found.is_file():
        found = tree / found.read_text().strip().removeprefix("gitdir: ")
    elif not found.exists():
        found = tree  # bare
    if (common := found / "commondir").is_file():
        found = found / common.read_text().strip()
    folders = [found.resolve()] if (found / "HEAD").is_file() else []
    for folder in folders:  # grows: what shares objects may share those of others
        alternates = folder / "objects/info/alternates"
        lines = alternates.read_text().splitlines() if alternates.is_file() else []
        others = [(folder / "objects" / line).resolve().parent for line in lines]
        folders += [one for one in others if one not in folders and (one / "HEAD").is_file()]
    return folders


def user(folder: Path) -> str:
    """Return git's user in a folder, as tags in commit messages name them.

    Raises:
        UsageError: git knows no name or no address.
    """
    found = []
    for key in ("user.name", "user.email"):
        try:
            found.append(git(folder, "config", "--get", key).strip())
        except BuildError as error:
            raise UsageError(
                f"git knows no {key}",
                where=folder,
                hint=f"set it with `git config --global {key} ...`",
            ) from error
    name, address = found
    return f"{name} <{address}>"


def find_repository(folder: Path) -> Path | None:
    """Return the git checkout or bare repository that a folder is in, None if it is in none."""
    for one in (folder.resolve(), *folder.resolve().parents):
        if (one / ".git").exists() or ((one / "objects").is_dir() and (one / "HEAD").is_file()):
            return one
    return None


def has_history(tree: Path) -> bool:
    """Return whether a tree is the top of a git checkout with a commit."""
    return (tree / ".git").exists() and knows(tree, "HEAD")


def knows(tree: Path, commit: str) -> bool:
    """Return whether a tree's repository has a commit."""
    with contextlib.suppress(BuildError):
        git(tree, "rev-parse", "--quiet", "--verify", f"{commit}^{{commit}}")
        return True
    return False


def commit_hash(tree: Path, name: str) -> str:
    """Return the hash of a commit.

    Args:
        tree: a checkout, or a bare repository.
        name: a hash, tag, branch or expression.

    Raises:
        UsageError: the repository has no such commit.
    """
    if not knows(tree, name):
        raise UsageError(f"{tree} has no commit {name}", expected="a commit, tag or branch")
    return git(tree, "rev-parse", "--verify", f"{name}^{{commit}}").strip()


def is_shallow(tree: Path) -> bool:
    """Return whether a tree's history is shallow."""
    return git(tree, "rev-parse", "--is-shallow-repository").strip() == "true"


def blobs(tree: Path, commit: str = "HEAD") -> dict[str, str]:
    """Return the mode and the hash of each file of a commit."""
    listed = git(tree, "ls-tree", "-r", "-z", "--full-tree", commit).split("\0")
    entries = (entry.partition("\t") for entry in listed if entry)
    return {name: facts for facts, _tab, name in entries}


def tracked_files(tree: Path) -> list[str]:
    """Return the names of a tree's sources, including untracked ones, without build output.

    Raises:
        HostError: it is a git checkout, and git is not installed.
        UsageError: it was built in place, and sources and build output cannot be distinguished.
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
    """Return each file's size and time, which change when the file is edited."""
    found = {}
    for name in names:
        stat = (tree / name).lstat()
        found[name] = f"{stat.st_size}:{stat.st_mtime_ns}"
    return found


def mirror_tree(
    tree: Path, tracked_files: Mapping[str, str], target: Path, before: Mapping[str, str]
) -> set[str]:
    """Copy a tree's files to `target`, as hard links where possible; return what changed.

    Args:
        tree: the folder to copy from.
        tracked_files: the names and stamps of the files.
        target: the folder to copy to; other files there stay.
        before: `tracked_files` of the last call; files that no longer exist are removed.
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
    """Whether a copy has its source's content; a checkout may have changed the source's time."""
    if not os.path.lexists(copy) or source.is_symlink() or copy.is_symlink():
        return False
    return filecmp.cmp(source, copy, shallow=False)


def quiet(tree: Path) -> dict[str, str]:
    """Return an environment in which git stays in a tree and runs no program that it names."""
    return _environment(tree, _settings(tree))


def _environment(tree: Path, settings: Mapping[str, str]) -> dict[str, str]:
    given = dict(HARMLESS)
    for name, value in settings.items():
        if name.startswith("filter."):
            given[name] = "false" if name.endswith(".required") else ""
        elif name == "core.excludesfile":  # the user's own file, which the jail would not show
            given[name] = value
    # git does not search above the tree, nor refresh its index.
    words = {"GIT_CEILING_DIRECTORIES": os.fspath(tree.parent), "GIT_OPTIONAL_LOCKS": "0"}
    for number, (name, value) in enumerate(given.items()):
        words |= {f"GIT_CONFIG_KEY_{number}": name, f"GIT_CONFIG_VALUE_{number}": value}
    return environment(**words, GIT_CONFIG_COUNT=str(len(given)))


def _settings(tree: Path) -> dict[str, str]:
    """Return git's settings in a tree, the user's and the repository's."""
    done = subprocess.run(
        SETTINGS,
        check=False,
        capture_output=True,
        text=True,
        errors="replace",
        cwd=tree,
        env=_environment(tree, {}),
    )
    pairs = (entry.partition("\n") for entry in done.stdout.split("\0") if entry)
    return {name: value for name, _newline, value in pairs}
