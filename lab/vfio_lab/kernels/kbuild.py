"""Build a kernel that guests can boot from a source package and a list of options."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vfio_lab.arch import X86_64, Architecture
from vfio_lab.errors import BuildError, HostError
from vfio_lab.kernels import kconfig
from vfio_lab.kernels.compiler_cache import compiler_cache
from vfio_lab.kernels.make_output import complaint, step
from vfio_lab.kernels.toolchain import compiler, make_words
from vfio_lab.kernels.unpack import add_drivers, unneeded, unpack_source
from vfio_lab.util import host, jail, progress
from vfio_lab.util.cache import Cache
from vfio_lab.util.process import environment, pipeline

Follow = Callable[[str], None]

BZIMAGE = "bzImage"
MODULES = "modules.squashfs"
CONFIG = "config"
SYSTEM_MAP = "System.map"
LOG = "compile.log"  # what the build of untrusted code printed
# A child of the source tree: then every path on a compiler's command line is relative, and both
# ccache and the product are blind to where the tree was unpacked.
OUT = "lab-out"
SCRATCH_BYTES = 4 << 30
# What untrusted code has to leave to others on the disk.
ROOM_BYTES, ROOM_FILES = 1 << 30, 10_000
CCACHE_SIZE = "1G"
# The guest maps modules directly from the host's page cache; decompression would cost time.
SQUASHFS_FORMAT = ("-comp", "lz4", "-noI", "-noD", "-noF", "-noX", "-no-xattrs", "-all-root")
SQUASHFS_OPTIONS = (*SQUASHFS_FORMAT, "-no-progress", "-mkfs-time", "0", "-all-time", "0")
IDENTITY = {
    "KBUILD_BUILD_TIMESTAMP": "Thu Jan  1 00:00:00 UTC 1970",
    "KBUILD_BUILD_USER": "vfio",
    "KBUILD_BUILD_HOST": "lab",
    "KBUILD_BUILD_VERSION": "1",
}

# Variables that influence kbuild, or that a parent `make` passes down.
STEERING = frozenset(
    [
        "ARCH",
        "CROSS_COMPILE",
        "LLVM",
        "LOCALVERSION",
        "KCFLAGS",
        "KCPPFLAGS",
        "KAFLAGS",
        "MAKEFLAGS",
        "MFLAGS",
        "GNUMAKEFLAGS",
        "MAKELEVEL",
        "MAKEFILES",
    ]
)
STEERING_PREFIXES = ("KBUILD_", "KCONFIG_", "INSTALL_")
# The kernel's configuration notes which of these the host has, and the image carries it along.
ABSENT = ("RUSTC=false", "BINDGEN=false", "PAHOLE=false")
DISK_FULL = ("No space left on device", "Disk quota exceeded")


@dataclass(frozen=True)
class Made:
    """Facts about a built kernel.

    Args:
        release: the release, as `uname -r` will print it.
        version: the version in the source's Makefile.
        compiler: the first line of the compiler's `--version`.
    """

    release: str
    version: kconfig.Series
    compiler: str


@dataclass(frozen=True)
class Job:
    """A kernel to build.

    Args:
        name: the kernel's name.
        asked: the requested options.
        unasked: options that are not requested, because of their marks for other series.
        steps: the number of lines that `make` prints, 0 if unknown.
        architecture: the architecture that the kernel is for.
        drivers: the sources of drivers of the lab's own.
    """

    name: str
    asked: tuple[kconfig.Option, ...]
    unasked: tuple[kconfig.Option, ...]
    steps: int
    architecture: Architecture = X86_64
    drivers: tuple[Path, ...] = ()


def kept(architecture: Architecture) -> dict[str, str]:
    """Return the files of a build tree that guests need, and their names in the product."""
    image = architecture.boot_image
    return {str(image): image.name, ".config": CONFIG, SYSTEM_MAP: SYSTEM_MAP}


def build(job: Job, archive: Path, scratch: Path, cache: Cache) -> Made:
    """Build a kernel into `scratch`.

    Args:
        job: what to build.
        archive: the Debian source package of the kernel.
        scratch: the folder for the product; temporary files below it are deleted.
        cache: the cache that keeps ccache and the logs.

    Raises:
        HostError: a tool or disk space is missing.
        BuildError: a step failed, or an option was not granted; the full log stays.
    """
    bench = Bench(job, scratch / "work", cache)
    try:
        bench.prepare(
            archive, unneeded([option.name for option in job.asked], job.architecture.kernel)
        )
        bench.pack(scratch)
        return bench.made()
    finally:
        cache.delete_later(scratch / "work")


def version(tree: Path) -> kconfig.Series:
    """Return the version that a source tree's Makefile states, `(6, 12, 107)`.

    Raises:
        BuildError: it states none.
    """
    makefile = tree / "Makefile"
    text = makefile.read_text() if makefile.is_file() else ""
    fields = dict(re.findall(r"^(VERSION|PATCHLEVEL|SUBLEVEL) *= *(\d+)$", text, re.MULTILINE))
    try:
        return tuple(int(fields[name]) for name in ("VERSION", "PATCHLEVEL", "SUBLEVEL"))
    except KeyError as error:
        raise BuildError(
            f"{tree} is no kernel source", expected=f"{error.args[0]} in its Makefile"
        ) from error


def _ignore(_line: str) -> None:
    return


@dataclass(frozen=True)
class Bench:
    """The build of a kernel: its source tree, build tree and steps.

    Args:
        job: the kernel to build.
        work: the folder to work in.
        cache: the cache that keeps ccache and the logs.
        foreign: whether the sources are untrusted; they are built in a jail only.
    """

    job: Job
    work: Path
    cache: Cache
    foreign: bool = False

    @property
    def tree(self) -> Path:
        """The source tree."""
        return self.work / "src"

    @property
    def out(self) -> Path:
        """The build tree."""
        return self.tree / OUT

    @property
    def release(self) -> str:
        """The release, as `uname -r` will print it."""
        return (self.out / "include/config/kernel.release").read_text().strip()

    @property
    def version(self) -> kconfig.Series:
        """The version in the source's Makefile."""
        return version(self.tree)

    def prepare(self, archive: Path, without: Sequence[str] = ()) -> None:
        """Unpack, configure and compile.

        Args:
            archive: the Debian source package of the kernel.
            without: patterns of files that are not unpacked.

        Raises:
            HostError: a tool or disk space is missing.
            BuildError: a step failed, or an option was not granted; the full log stays.
        """
        host.need("kernel")
        host.need_compiler(self.job.architecture)
        self.work.mkdir(mode=0o700, parents=True, exist_ok=True)
        host.need_space(self.work, SCRATCH_BYTES, f"building kernel {self.job.name}")
        self.unpack(archive, without)
        self.configure()
        self.check()
        self.compile()

    def unpack(self, archive: Path, without: Sequence[str] = ()) -> None:
        """Unpack the source tree from the tarball in the package, and add the lab's drivers.

        Args:
            archive: the Debian source package of the kernel.
            without: patterns of files to leave out.
        """
        title = f"Unpacking the source of kernel {self.job.name}"
        unpack_source(
            archive,
            self.tree,
            lambda command, follow: self.run("unpack", command, follow),
            title,
            without,
        )
        add_drivers(self.tree, self.job.drivers)

    def configure(self) -> None:
        """Create the configuration from the requested options only."""
        self.out.mkdir(exist_ok=True)
        wanted = self.work / "asked.config"
        wanted.write_text(kconfig.seed(self.job.asked))
        with progress.task(f"Configuring kernel {self.job.name}"):
            self.make("configure", f"KCONFIG_ALLCONFIG={wanted}", "allnoconfig")

    def check(self) -> None:
        """Compare the resulting configuration with the requested options.

        Raises:
            BuildError: an option was not granted, or is available despite its mark.
        """
        final = kconfig.read_config((self.out / ".config").read_text())
        kconfig.check_config(
            self.job.asked,
            self.job.unasked,
            final,
            kconfig.config_symbols(self.tree, self.job.architecture.kernel),
        )

    def refused(self) -> list[str]:
        """Return the names of the requested options that the configuration lacks."""
        final = kconfig.read_config((self.out / ".config").read_text())
        return [
            option.name for option in self.job.asked if final.get(option.name, "n") != option.value
        ]

    def compile(self, *targets: str) -> None:
        """Compile the image and the modules, or only certain targets.

        Raises:
            BuildError: the kernel does not compile; names file and line.
        """
        done = 0
        with progress.task(f"Compiling kernel {self.job.name}", self.job.steps or None) as task:

            def follow(line: str) -> None:
                nonlocal done
                if (note := step(line)) is not None:
                    done += 1
                    task.update(done, note=note)

            try:
                self.make(
                    "compile",
                    *(targets or (self.job.architecture.boot_image.name, "modules")),
                    follow=follow,
                )
            except BuildError as error:
                log = error.where.read_text(errors="replace") if error.where else ""
                raise BuildError(
                    f"kernel {self.job.name} does not compile",
                    seen=complaint(log) or error.seen,
                    tail=error.tail,
                    where=error.where,
                ) from error

    def pack(self, product: Path) -> None:
        """Copy the files that guests need to the product's folder."""
        stage = self.work / "stage"
        folder = stage / "lib/modules"
        shutil.rmtree(
            stage, ignore_errors=True
        )  # a reused tree may have had another release before
        with progress.task(f"Packing kernel {self.job.name}"):
            self.make(
                "install", f"INSTALL_MOD_PATH={stage}", "INSTALL_MOD_STRIP=1", "modules_install"
            )
            for link in ("build", "source"):
                (folder / self.release / link).unlink(missing_ok=True)
            self.squash(folder, product / MODULES)
            for made, name in kept(self.job.architecture).items():
                shutil.copyfile(self.out / made, product / name)

    def squash(self, folder: Path, target: Path) -> None:
        """Pack the files for /lib/modules."""
        command = ["mksquashfs", os.fspath(folder), os.fspath(target)]
        self.run("pack", [*command, *SQUASHFS_OPTIONS])

    def made(self) -> Made:
        """Return the facts about the built kernel."""
        return Made(self.release, self.version, compiler(self.job.architecture))

    def make(self, stage: str, *arguments: str, follow: Follow = _ignore) -> None:
        """Run kbuild's make.

        Args:
            stage: the step's name; it names the log.
            arguments: targets and variables.
            follow: called with each line of output.
        """
        command = ["make", "-C", os.fspath(self.tree), f"O={OUT}", f"-j{host.cores()}"]
        command += [*make_words(self.job.architecture), *ABSENT, *arguments]
        self.run(stage, jail.confine(command, self.confinement(), foreign=self.foreign), follow)

    def confinement(self) -> jail.Jail:
        """Return a jail that may write to the build tree, the staged modules and ccache.

        Sources may be hard links to a user's files, or links into the cached tree that a branch
        was made from. Both stay read-only.
        """
        writable = (self.out, self.work / "stage", self._ccache)
        for folder in writable:
            folder.mkdir(parents=True, exist_ok=True)
        return jail.Jail(writable, visible=(self.cache.root, self.work))

    @property
    def _ccache(self) -> Path:
        return compiler_cache(self.cache, foreign=self.foreign)

    def log(self, stage: str) -> Path:
        """Return the log file of a stage."""
        name = self.job.name.replace(":", "-")
        return self.cache.open().root / "logs" / f"kernel-{name}-{stage}.log"

    def forget_logs(self) -> None:
        """Delete the logs of a kernel that has no permanent name."""
        for path in self.log("x").parent.glob(self.log("*").name):
            path.unlink()

    def run(self, stage: str, command: list[str], follow: Follow = _ignore) -> None:
        """Run a tool.

        Args:
            stage: the step's name; it names the log.
            command: the words of the command line.
            follow: called with each line of output.
        """
        log = self.log(stage)
        what = f"{stage} kernel {self.job.name}"
        check = self._check_disk if self.foreign else lambda: None
        try:
            pipeline(what, command, log=log, on_line=follow, env=self._environment(), check=check)
        except BuildError as error:
            if not any(words in (error.tail or "") for words in DISK_FULL):
                raise
            raise HostError(
                f"the disk filled up: cannot {what}",
                seen=error.seen,
                where=log,
                hint=f"free some space below {self.cache.root}, or move XDG_CACHE_HOME",
            ) from error

    def _check_disk(self) -> None:
        """Raise HostError if untrusted code leaves others no room on the disk."""
        disk = os.statvfs(self.work)
        if disk.f_bavail * disk.f_frsize < ROOM_BYTES or 0 < disk.f_favail < ROOM_FILES:
            raise HostError(
                f"kernel {self.job.name} was not built: it nearly filled the disk",
                expected=f"{host.megabytes(ROOM_BYTES)} free, and room for {ROOM_FILES} files",
                seen=f"{host.megabytes(disk.f_bavail * disk.f_frsize)} free",
                where=self.work,
            )

    def _environment(self) -> dict[str, str]:
        inherited = {
            name: value
            for name, value in environment().items()
            if name not in STEERING and not name.startswith(STEERING_PREFIXES)
        }
        ccache = {
            "CCACHE_DIR": os.fspath(self._ccache),
            "CCACHE_MAXSIZE": CCACHE_SIZE,
            # Without debug information an object does not contain its build path.
            "CCACHE_BASEDIR": os.fspath(self.work),
            "CCACHE_NOHASHDIR": "1",
        }
        return inherited | IDENTITY | ccache
