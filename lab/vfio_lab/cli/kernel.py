"""`vfio-lab kernel`: the kernels that guests boot."""

from __future__ import annotations

from pathlib import Path

import click

from vfio_lab.kernels import kbuild, ksource, ktree, selector
from vfio_lab.kernels import packaged as kernels
from vfio_lab.spec import changes
from vfio_lab.util.cache import Cache
from vfio_lab.util.host import megabytes


@click.group()
def kernel() -> None:
    """Build and show the kernels that guests boot."""


@kernel.command("list")
def list_() -> None:
    """List all kernels, with purpose and build state; * marks the default."""
    cache = Cache.default().open()
    default, known = kernels.kernel_catalogue().default, selector.all_kernels()
    width = max(len(name) for name in known)
    for name, entry in known.items():
        built = selector.find_kernel(name, cache)
        absent = "not built" if isinstance(entry, kernels.Spec) else "not fetched"
        state = absent if built is None else built.release
        mark = "*" if name == default else " "
        click.echo(f"{mark} {name:{width}}  {state:22}  {entry.about}")


@kernel.command()
@click.argument("names", metavar="NAME[:FLAVOUR]...", nargs=-1, required=True)
def build(names: tuple[str, ...]) -> None:
    """Build kernels that are missing or out of date; fetch distribution kernels."""
    for name in names:
        selector.catalogue_entry(name)  # check all names before the first build
    for name in names:
        made = selector.ensure_kernel(name, Cache.default().open())
        click.echo(f"{made.name}: {made.release}, {made.bzimage.parent}")


@kernel.command()
@click.argument("name", metavar="KERNEL")
def show(name: str) -> None:
    """Show the sources of a kernel and the changes that it has.

    KERNEL is a packaged kernel, or a path as for `pytest --lab-kernel`. For sources with a git
    history the history decides, without a build; for other kernels the version decides.
    """
    cache = Cache.default().open()
    history: dict[str, bool] = {}
    if name in selector.all_kernels():
        lines = _packaged(name, cache)
        version = _version(name, cache)
    else:
        version, history = selector.version_and_changes(name, cache)
        lines = {"kernel": name, "version": ".".join(map(str, version))}
        lines["changes"] = "from its git history" if history else "by version"
    for key, value in lines.items():
        click.echo(f"{key:10} {value}")
    for change in changes.load_changes().values():
        has = history.get(change.id, change.in_version(version))
        click.echo(f"{'has' if has else 'lacks':10} {change}")


def _version(name: str, cache: Cache) -> changes.Version:
    if (built := selector.find_kernel(name, cache)) is not None:
        return built.version
    if (package := ksource.pinned(cache, selector.catalogue_entry(name).source)) is not None:
        return changes.parse_version(package.version)
    return (
        selector.ensure_kernel(name, cache).version if "/" in name else changes.parse_version(name)
    )


def _packaged(name: str, cache: Cache) -> dict[str, str]:
    spec = selector.catalogue_entry(name)
    lines = {"kernel": f"{spec.name}: {spec.about}"}
    package = ksource.pinned(cache, spec.source)
    if package is None:
        lines["source"] = f"{spec.source.package}, not fetched yet"
    else:
        lines["source"] = f"{package.name} {package.version} from {package.suite}"
        lines["sha256"] = package.sha256
    if isinstance(spec, kernels.Spec):
        lines["asked for"] = f"{len(spec.asked)} options"
        if package and (tree := ktree.kept_tree(spec, package.sha256, cache)):
            lines["tree"] = f"{tree}, to read and not to edit"
    built = selector.find_kernel(name, cache)
    return lines | ({"built": "no"} if built is None else _product(built))


@kernel.command()
@click.argument("name", metavar="NAME[:FLAVOUR]")
@click.option("--source", is_flag=True, help="Delete the kept source package too.")
def remove(name: str, source: bool) -> None:
    """Delete every build of a kernel, outdated ones too."""
    cache = Cache.default().open()
    count = selector.remove_named_kernel(name, cache)
    click.echo(f"{name}: {count} build{'s' if count != 1 else ''} deleted")
    if source:
        ksource.drop(cache, selector.catalogue_entry(name).source)


@kernel.command()
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option("--all", "every", is_flag=True, help="Update every kernel that was ever fetched.")
def update(names: tuple[str, ...], every: bool) -> None:
    """Pin kernels to the newest packages in the archive, security updates included.

    The next use builds them.
    """
    cache = Cache.default().open()
    if every == bool(names):
        raise click.UsageError("name kernels, or pass --all")
    if every:
        names = tuple(name for name, _package, _age in selector.pinned_kernels(cache))
    sources = {name: selector.catalogue_entry(name).source for name in names}
    for name, wanted in sources.items():
        before = ksource.pinned(cache, wanted)
        after, _entry = ksource.fetch(cache, wanted)
        was = before.version if before else "absent"
        news = "nothing newer" if before == after else f"was {was}"
        click.echo(f"{name}: {after.name} {after.version} from {after.suite} ({news})")


def _product(built: kernels.Kernel) -> dict[str, str]:
    folder = built.bzimage.parent
    return {
        "built": built.release,
        "compiler": str(kernels.facts(built).get("compiler", "unknown")),
        "digest": built.digest,
        "folder": str(folder),
        "image": f"{built.bzimage.name}, {_size(built.bzimage)}",
        "modules": f"{kbuild.MODULES}, {_size(built.modules)}",
    }


def _size(path: Path) -> str:
    return megabytes(path.stat().st_size)
