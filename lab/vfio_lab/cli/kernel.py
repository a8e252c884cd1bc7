"""`vfio-lab kernel`: the kernels that guests boot."""

from __future__ import annotations

from pathlib import Path

import click

from vfio_lab.kernels import kbuild, ksource, selector
from vfio_lab.kernels import packaged as kernels
from vfio_lab.spec import changes
from vfio_lab.util.cache import Cache
from vfio_lab.util.host import megabytes


@click.group()
def kernel() -> None:
    """Build and show the kernels that guests boot."""


@kernel.command("list")
def list_() -> None:
    """List all kernels, what each is for and whether it is built; * marks the default."""
    cache = Cache.default().open()
    known = kernels.kernel_catalogue()
    width = max(len(name) for name in known.specs)
    for spec in known.specs.values():
        built = kernels.find_packaged_kernel(spec.name, cache)
        state = "not built" if built is None else built.release
        mark = "*" if spec.name == known.default else " "
        click.echo(f"{mark} {spec.name:{width}}  {state:22}  {spec.about}")


@kernel.command()
@click.argument("names", metavar="NAME[:FLAVOUR]...", nargs=-1, required=True)
def build(names: tuple[str, ...]) -> None:
    """Build kernels that are missing or out of date."""
    known = kernels.kernel_catalogue()
    for name in names:
        known.spec(name)  # a misspelt last name must not cost the builds before it
    for name in names:
        made = kernels.ensure_packaged_kernel(name, Cache.default())
        click.echo(f"{made.name}: {made.release}, {made.bzimage.parent}")


@kernel.command()
@click.argument("name", metavar="KERNEL")
def show(name: str) -> None:
    """Say what a kernel is made of and which changes it has.

    KERNEL is a packaged one, or a path as for `pytest --lab-kernel`. Sources with a git history are
    asked themselves, without a build; of other kernels the version decides.
    """
    cache = Cache.default().open()
    history: dict[str, bool] = {}
    if name in kernels.kernel_catalogue().specs:
        lines = _packaged(name, cache)
        version = _version(name, cache)
    else:
        version, history = selector.version_and_changes(name, cache)
        lines = {"kernel": name, "version": ".".join(map(str, version))}
        lines["changes"] = "asked of its git history" if history else "by version"
    for key, value in lines.items():
        click.echo(f"{key:10} {value}")
    for change in changes.load_changes().values():
        has = history.get(change.id, change.in_version(version))
        click.echo(f"{'has' if has else 'lacks':10} {change}")


def _version(name: str, cache: Cache) -> changes.Version:
    built = kernels.find_packaged_kernel(name, cache)
    package = ksource.pinned(cache, kernels.kernel_catalogue().spec(name).source)
    return built.version if built else changes.parse_version(package.version if package else name)


def _packaged(name: str, cache: Cache) -> dict[str, str]:
    spec = kernels.kernel_catalogue().spec(name)
    lines = {"kernel": f"{spec.name}: {spec.about}"}
    package = ksource.pinned(cache, spec.source)
    if package is None:
        lines["source"] = f"{spec.source.package}, not fetched yet"
    else:
        lines["source"] = f"{package.name} {package.version} from {package.suite}"
        lines["sha256"] = package.sha256
    lines["asked for"] = f"{len(spec.asked)} options"
    built = kernels.find_packaged_kernel(name, cache)
    return lines | ({"built": "no"} if built is None else _product(built))


@kernel.command()
@click.argument("name", metavar="NAME[:FLAVOUR]")
@click.option("--source", is_flag=True, help="Delete the kept source package too.")
def remove(name: str, source: bool) -> None:
    """Delete every build of a kernel, outdated ones too."""
    cache = Cache.default().open()
    count = kernels.remove_kernel(name, cache)
    click.echo(f"{name}: {count} build{'s' if count != 1 else ''} deleted")
    if source:
        ksource.drop(cache, kernels.kernel_catalogue().spec(name).source)


@kernel.command()
@click.argument("name", metavar="NAME")
def update(name: str) -> None:
    """Pin the newest source of a kernel that the archive has; the next use builds it."""
    cache = Cache.default().open()
    wanted = kernels.kernel_catalogue().spec(name).source
    before = ksource.pinned(cache, wanted)
    after, _entry = ksource.fetch(cache, wanted)
    news = "nothing newer" if before == after else f"was {before.version if before else 'absent'}"
    click.echo(f"{name}: {after.name} {after.version} from {after.suite} ({news})")


def _product(built: kernels.Kernel) -> dict[str, str]:
    folder = built.bzimage.parent
    return {
        "built": built.release,
        "compiler": str(kernels.facts(built).get("compiler", "unknown")),
        "digest": built.digest,
        "folder": str(folder),
        "image": f"{kbuild.BZIMAGE}, {_size(built.bzimage)}",
        "modules": f"{kbuild.MODULES}, {_size(built.modules)}",
    }


def _size(path: Path) -> str:
    return megabytes(path.stat().st_size)
