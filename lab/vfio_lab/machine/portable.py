"""The part of the cache that serves another host: what to export, and what to leave out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vfio_lab.errors import HostError, UsageError
from vfio_lab.image import agent, rootfs
from vfio_lab.kernels import ksource, selector
from vfio_lab.kernels.packaged import Kernel
from vfio_lab.machine.template import LASTING
from vfio_lab.qemu import capabilities
from vfio_lab.util.cache import MANIFEST, Cache, file_digest
from vfio_lab.util.cache_archive import Contents, Entry, pin_path

TEMPLATE = LASTING[0]
KEYS = ("keys", "ssh")
OTHER_QEMU = "frozen by another QEMU"
UNKNOWN = "made before the lab recorded what a template is made of"
OTHER_KEYS = "this cache has other SSH keys"
OUTDATED = "of an image or a payload that is gone"


@dataclass(frozen=True)
class Selection:
    """What to export, and how many templates were left out for which reason."""

    contents: Contents
    left_out: Mapping[str, int] = field(default_factory=dict)


def select_entries(cache: Cache, names: Sequence[str], *, images: bool) -> Selection:
    """Choose the entries that some kernels need on another host.

    Args:
        cache: the cache.
        names: the kernels; without a name all that are built.
        images: whether to take every image, also those that no template needs.

    Raises:
        UsageError: a kernel is unknown or not built, or there is nothing to export.
    """
    built = {name: selector.find_kernel(name, cache) for name in names or selector.all_kernels()}
    kernels = {name: kernel for name, kernel in built.items() if kernel}
    if absent := [name for name in names if name not in kernels]:
        raise UsageError(
            f"kernel {absent[0]} cannot be exported",
            seen="it is not built",
            hint=f"vfio-lab kernel build {absent[0]}",
        )
    known = [rootfs.find_image(cache, name) for name in rootfs.recipes()]
    roots = {image.digest: image.path.parent for image in known if image}
    templates, left_out = _templates(cache, kernels.values(), roots)
    used = {template.inputs["image"] for template in templates}
    folders = [kernel.bzimage.parent for kernel in kernels.values()]
    folders += [root for digest, root in roots.items() if images or digest in used]
    pins = {}
    for wanted in {selector.catalogue_entry(name).source for name in kernels}:
        pins[wanted.name] = pin_path(cache, wanted.name).read_text()
        folders += filter(None, [ksource.pinned_entry(cache, wanted)])
    if not folders:
        raise UsageError(
            f"nothing to export in {cache.root}",
            expected="a kernel that is built",
            hint="vfio-lab kernel build KERNEL",
        )
    entries = [*_needed(cache, templates), *(_entry(cache, *_place(folder)) for folder in folders)]
    entries += templates
    return Selection(Contents(tuple(dict.fromkeys(entries)), pins), left_out)


def unusable(cache: Cache, contents: Contents) -> dict[Entry, str]:
    """Return the entries of an archive that are of no use here, with the reasons."""
    found = {entry: reason for entry in contents.entries if (reason := _foreign(entry))}
    own = cache.find(*KEYS)
    for entry in contents.entries:
        differs = own and entry.inputs.get("digest") != file_digest(own / MANIFEST)
        if (entry.kind, entry.key) == KEYS and differs:
            tied = (one for one in contents.entries if one.kind in (TEMPLATE, "payload", KEYS[0]))
            found |= dict.fromkeys(tied, OTHER_KEYS)
    return found


def _foreign(entry: Entry) -> str:
    return OTHER_QEMU if entry.kind == TEMPLATE and entry.inputs.get("qemu") != _qemu() else ""


def _qemu() -> str:
    """Return the digest of this host's QEMU, empty if it has none."""
    try:
        return capabilities.probe_qemu().digest
    except HostError:
        return ""


def _templates(
    cache: Cache, kernels: Iterable[Kernel], roots: Mapping[str, Path]
) -> tuple[list[Entry], Counter[str]]:
    """Return the latest template of each topology, kernel and image, and why others are none."""
    digests, left_out = {kernel.digest for kernel in kernels}, Counter[str]()
    latest: dict[tuple[object, ...], Entry] = {}
    for key in sorted(cache.keys(TEMPLATE), key=lambda key: cache.last_use(TEMPLATE, key)):
        inputs = cache.inputs(TEMPLATE, key)
        if not inputs:
            left_out[UNKNOWN] += 1
        elif inputs["kernel"] in digests:
            entry = _entry(cache, TEMPLATE, key)
            payload = cache.find("payload", str(inputs["payload"]))
            reason = _foreign(entry) or ("" if payload and inputs["image"] in roots else OUTDATED)
            if reason or cache.find(TEMPLATE, key) is None:
                left_out[reason or OUTDATED] += 1
            else:
                latest[inputs["topology"], inputs["kernel"], inputs["image"]] = entry
    return list(latest.values()), left_out


def _needed(cache: Cache, templates: Sequence[Entry]) -> Iterator[Entry]:
    """Yield what templates need beside kernels and images, first of all the keys."""
    if templates:
        digest = file_digest(cache.path(*KEYS) / MANIFEST)
        yield Entry(*KEYS, inputs={"digest": digest})
    yield _entry(cache, *_place(agent.build_agent(cache).parent))
    for key in sorted({str(template.inputs["payload"]) for template in templates}):
        yield _entry(cache, "payload", key)
    for kind, wanted in (("initramfs", templates), ("selftests", ())):
        for key in cache.keys(kind):
            inputs = cache.inputs(kind, key)
            pairs = {(one.inputs["kernel"], one.inputs["image"]) for one in wanted}
            fits = not wanted or (inputs.get("kernel"), inputs.get("image")) in pairs
            if fits and cache.find(kind, key):
                yield _entry(cache, kind, key)


def _place(folder: Path) -> tuple[str, str]:
    return folder.parent.name, folder.name


def _entry(cache: Cache, kind: str, key: str) -> Entry:
    folder = cache.path(kind, key)
    disk = sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())
    return Entry(kind, key, disk, cache.inputs(kind, key))
