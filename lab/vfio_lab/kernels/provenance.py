"""The origin of a kernel: package or git commit, base, patches, configuration, compiler."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vfio_lab.kernels import gittree, kbuild, packaged
from vfio_lab.kernels.packaged import Kernel
from vfio_lab.kernels.series import Patch
from vfio_lab.util import jail

KEPT = ("compiler", "git", "base", "patches", "unconfined")


def kernel_facts(kernel: Kernel) -> dict[str, Any]:
    """Return the facts about a kernel for results; unknown facts are left out.

    The keys are described in docs/results.md.
    """
    known = packaged.facts(kernel)
    found: dict[str, Any] = {
        "name": kernel.name,
        "release": kernel.release,
        "version": ".".join(map(str, kernel.version)),
        "digest": kernel.digest,
        "architecture": kernel.architecture,
        "config": _sha256(kernel.config.read_bytes()),
    }
    found |= {key: known[key] for key in KEPT if known.get(key)}
    if not kernel.trusted:
        found |= jail_facts()
    if "package" in known:
        found["package"] = {"name": known["package"], "version": known["package_version"]}
    return found


def keep_build_log(kernel: Kernel, folder: Path) -> None:
    """Copy what the build of untrusted code printed to the evidence."""
    log = kernel.bzimage.parent / kbuild.LOG
    if log.is_file():
        shutil.copyfile(log, folder / log.name)


def git_facts(tree: Path) -> dict[str, Any]:
    """Return the commit of a source tree, and whether its files differ from that commit.

    Args:
        tree: the top folder of the sources; without a git checkout there are no facts.
    """
    if not gittree.has_history(tree):
        return {}
    changed = gittree.git(tree, "status", "--porcelain", "--untracked-files=no")
    return {
        "commit": gittree.git(tree, "rev-parse", "HEAD").strip(),
        "describe": gittree.git(tree, "describe", "--always", "--tags").strip(),
        "dirty": bool(changed.strip()),
    }


def base_facts(base: Kernel) -> dict[str, Any]:
    """Return the facts that a patched kernel keeps from its base."""
    known = packaged.facts(base)
    kept = ("package", "package_version", "compiler", "git", "history")
    return {"base": base.name} | {key: known[key] for key in kept if key in known}


def jail_facts() -> dict[str, bool]:
    """Return the fact that untrusted code is built, and runs in QEMU, without a jail, if so."""
    return {} if jail.confines() else {"unconfined": True}


def patch_facts(patches: Sequence[Patch]) -> list[Mapping[str, str]]:
    """Return subject and SHA-256 of each patch of a series."""
    return [{"subject": patch.name, "sha256": _sha256(patch.text.encode())} for patch in patches]


def _sha256(data: bytes) -> str:
    """Return the same digest as `sha256sum` prints, so that users can compare."""
    return hashlib.sha256(data).hexdigest()
