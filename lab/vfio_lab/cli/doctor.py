"""`vfio-lab doctor`: check what this host supports, and how to get what is missing."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

import click

from vfio_lab.arch import AARCH64
from vfio_lab.errors import HostError, LabError
from vfio_lab.hw.catalogue import topologies
from vfio_lab.image import rootfs
from vfio_lab.kernels import packaged, selector
from vfio_lab.qemu import accelerator, capabilities
from vfio_lab.util import apt, host
from vfio_lab.util.cache import Cache

OK, WARN, FAIL = "ok", "warn", "fail"
MARKS = {OK: "  ", WARN: "! ", FAIL: "X "}
CANNOT_RUN = 2
GB = 1 << 30
BUILD_BYTES = 6 * GB
RUN_BYTES = GB
MEMORY_BYTES = GB
DAY_S = 86400.0
APT = "apt-get"
OTHER = ("setup", "other", "arm64")  # what only bootstrap looks for, and what few need
CONTAINER = 'the container needs none of them: "Anywhere else" in README.md'
OLD_QEMU = "VFs may vanish when their PF is reset: seen with QEMU 8.2.2, not with 10.0.2"
NEWER_QEMU = 'a newer QEMU with --lab-qemu PATH, or the container: "Anywhere else" in README.md'
OLD_DAYS = 14  # a stable series gets a release about every week


@dataclass(frozen=True)
class Finding:
    """The result of a check.

    Args:
        name: what was checked.
        state: `ok`, `warn` (a feature will not work) or `fail` (the lab will not run).
        seen: what was found, in one line.
        hint: the command that solves the problem, empty if there is none.
    """

    name: str
    state: str
    seen: str
    hint: str = ""


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(as_json: bool) -> None:
    """Check what this host supports, and how to get what is missing.

    Exits with 0 if the lab can run here, else with 2.
    """
    findings = list(examine(Cache.default().open()))
    fit = all(finding.state != FAIL for finding in findings)
    if as_json:
        report = {"fit": fit, "findings": [asdict(finding) for finding in findings]}
        click.echo(json.dumps(report, indent=1))
    else:
        for finding in findings:
            click.echo(f"{MARKS[finding.state]}{finding.name:12} {finding.seen}")
            if finding.hint:
                click.echo(f"  {'':12} -> {finding.hint}")
        click.echo("the lab can run here" if fit else "the lab cannot run here yet")
    if not fit:
        sys.exit(CANNOT_RUN)


def examine(cache: Cache) -> Iterator[Finding]:
    """Check everything that the lab needs; KVM and QEMU are run to find out.

    Args:
        cache: the cache whose disk, kernel and image are checked.
    """
    default = packaged.kernel_catalogue().default
    built = packaged.find_packaged_kernel(default, cache)
    root = rootfs.find_image(cache)
    yield from _qemu(cache, built)
    yield from _foreign()
    yield from _tools("run", there=False)
    yield Finding(
        "kernel",
        OK,
        f"{default} is built ({built.release})"
        if built
        else f"{default} is not built yet; the first run builds it, in about 8 minutes",
    )
    yield from _tools("kernel", there=built is not None)
    yield from _tools("distribution", there=True)
    yield from _old_pins(cache, time.time())
    yield from _tools("selftests", there=True)
    yield from _tools("tree", there=True)
    yield Finding(
        "image",
        OK,
        f"Debian {root.suite} is built"
        if root
        else "not built yet; the first run builds it, in about a minute",
    )
    yield from _tools("image", there=root is not None)
    if built is None or root is None:
        yield from _mirror()
    yield from _unproven()
    if root is None:
        yield from _guarded("user ids", rootfs.need_namespaces)
    yield _disk(cache, BUILD_BYTES if built is None else RUN_BYTES)
    yield _memory()
    yield Finding("cores", OK, str(host.cores()))


def _qemu(cache: Cache, built: packaged.Kernel | None) -> Iterator[Finding]:
    try:
        caps = capabilities.probe_qemu()
    except HostError as error:
        yield _failing("qemu", FAIL, error)
        return
    yield Finding("qemu", OK, f"{capabilities.dotted(caps.version)} at {caps.binary}")
    if not caps.proven:
        yield Finding("qemu", WARN, OLD_QEMU, NEWER_QEMU)
    unsupported = {
        name: missing
        for name, topology in topologies().items()
        if (missing := caps.missing(topology.qemu_devices))
    }
    for name, missing in unsupported.items():
        yield Finding(
            "devices",
            WARN,
            f"topology {name} cannot run: no {', '.join(missing)}",
            capabilities.install_hint(),
        )
    if not unsupported:
        yield Finding("devices", OK, f"all that the {len(topologies())} topologies need")
    chosen = accelerator.choose_accelerator(caps, cache, built.bzimage if built else None)
    yield Finding("accelerator", OK, f"{chosen.name}: {chosen.reason}")


def _old_pins(cache: Cache, now: float) -> Iterator[Finding]:
    for name, package, since in selector.pinned_kernels(cache):
        days = int((now - since) // DAY_S)
        if days >= OLD_DAYS:
            yield Finding(
                "pins",
                WARN,
                f"{name} is pinned to {package.version}; the last check for a newer version was"
                f" {days} days ago",
                "vfio-lab kernel update --all",
            )


def _tools(purpose: str, *, there: bool) -> Iterator[Finding]:
    absent = host.missing(purpose)
    if absent:
        yield Finding(
            "tools",
            WARN if there else FAIL,
            f"no {', '.join(tool.name for tool in absent)} ({purpose})",
            host.install_command(tool.name for tool in absent),
        )


def _foreign() -> Iterator[Finding]:
    """Say whether guests of the other architecture can be run, which few need."""
    absent = [tool.name for tool in host.missing("arm64")]
    seen = f"only with --lab-arch arm64: no {', '.join(absent)}" if absent else "guests can be run"
    yield Finding("arm64", OK, seen, capabilities.install_hint(AARCH64, absent) if absent else "")


def _unproven() -> Iterator[Finding]:
    """Say that the commands for this host were never tried, if it lacks anything."""
    family = host.host_family()
    if all(tool.there for tool in host.TOOLS if tool.purpose not in OTHER):
        return
    name = host.os_release().get("PRETTY_NAME", "this host")
    if family is None:
        yield Finding("packages", WARN, f"{name} is not in images/hosts.toml", CONTAINER)
    elif not family.proven:
        seen = f"{name}: these names of packages were never tried"
        yield Finding("packages", WARN, seen, CONTAINER)


def _mirror() -> Iterator[Finding]:
    """Say where Debian's packages come from, which kernels and images are made of."""
    if host.which(APT) is None:
        return  # then that is what is missing
    try:
        yield Finding("mirror", OK, apt.mirror().uri)
    except LabError as error:
        yield Finding("mirror", FAIL, error.what, error.hint or "")


def _guarded(name: str, check: Callable[[], None]) -> Iterator[Finding]:
    try:
        check()
    except LabError as error:
        yield _failing(name, FAIL, error)


def _failing(name: str, state: str, error: LabError) -> Finding:
    seen = error.what if error.seen is None else f"{error.what}: {error.seen}"
    return Finding(name, state, seen, error.hint or "")


def _disk(cache: Cache, wanted_bytes: int) -> Finding:
    free = host.free_bytes(cache.root)
    seen = f"{host.megabytes(free)} free in {cache.root}"
    if free >= wanted_bytes:
        return Finding("disk", OK, seen)
    return Finding(
        "disk",
        FAIL,
        f"{seen}, {host.megabytes(wanted_bytes)} are needed",
        "vfio-lab cache clean, or set XDG_CACHE_HOME to a folder on a larger disk",
    )


def _memory() -> Finding:
    total, available = host.memory_bytes()
    seen = f"{host.megabytes(available)} of {host.megabytes(total)} available"
    if available >= MEMORY_BYTES:
        return Finding("memory", OK, seen)
    return Finding("memory", FAIL, f"{seen}, {host.megabytes(MEMORY_BYTES)} are needed")
