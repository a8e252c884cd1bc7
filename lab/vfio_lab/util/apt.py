"""Debian packages without root: a private apt that uses the host's mirror.

The host's apt configuration supplies the sources and how to reach them (proxies, certificates).
The lab keeps its own lists, state and downloads. apt always checks signatures and checksums.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
import subprocess
import tomllib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import platformdirs

from vfio_lab.errors import BuildError, HostError, UsageError
from vfio_lab.util import host
from vfio_lab.util.cache import Cache
from vfio_lab.util.process import environment, pipeline

KEYRINGS = tuple(
    Path("/usr/share/keyrings") / name
    for name in ("debian-archive-keyring.gpg", "debian-archive-keyring.pgp")
)
FIELDS = ("REPO_URI", "RELEASE", "COMPONENT", "ORIGIN", "LABEL")
SUITES = frozenset(
    ("bookworm", "trixie", "forky", "duke", "sid", "oldstable", "stable", "testing", "unstable")
)
POCKETS = ("-updates", "-backports", "-proposed-updates")
SECURITY = "-security"
SECURITY_LABEL = "Debian-Security"
ROLLING = frozenset(("sid", "unstable"))  # these have no separate security suite
NO_SUCH_SUITE = ("does not have a Release file", "no longer has a Release file")
PERCENT = re.compile(r"dlstatus:\d+:(\d+(?:\.\d+)?):")
# Name a mirror and its keyring; beside them, `mirror` and `keyring` in the configuration file.
MIRROR, KEYRING = "VFIO_LAB_MIRROR", "VFIO_LAB_KEYRING"
FETCH_HINT = "check the network, and that the host's own `apt-get update` works"
CONFIG = """\
Dir::State "{folder}/state";
Dir::State::status "/dev/null";
Dir::Cache "{folder}/cache";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
Dir::Etc::sourcelist "{folder}/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
APT::Update::Error-Mode "any";
APT::Sandbox::User "{user}";
APT::Get::AllowUnauthenticated "false";
APT::Status-Fd "1";
Acquire::AllowInsecureRepositories "false";
Acquire::AllowWeakRepositories "false";
Acquire::AllowDowngradeToInsecureRepositories "false";
Acquire::Languages "none";
Acquire::Retries "3";
"""
FOREIGN = """\
APT::Architecture "{architecture}";
#clear APT::Architectures;
APT::Architectures {{ "{architecture}"; }};
"""


@dataclass(frozen=True)
class Mirror:
    """Where Debian's packages come from.

    Args:
        uri: the archive's URI, as written in apt's sources.
        keyring: the keyring that checks its signatures; None uses apt's own keys.
        security: the URI of the security updates, empty if unknown.
    """

    uri: str
    keyring: Path | None
    security: str = ""


@dataclass(frozen=True)
class Package:
    """One version of a package, as recorded in a signed package list.

    Args:
        name: the package's name.
        version: Debian's version, with the revision.
        suite: the suite whose list contains it.
        sha256: the checksum of the file.
        size_bytes: the size of the file.
    """

    name: str
    version: str
    suite: str
    sha256: str
    size_bytes: int


def mirror() -> Mirror:
    """Return the Debian mirror that the user named, else the one that this host uses.

    Raises:
        HostError: the host has no Debian source.
        UsageError: the named mirror or its keyring does not exist.
    """
    if (named := named_mirror()) is not None:
        return named
    # Without release files apt lists no targets, unless it is called with --no-release-info.
    listings = [_targets("--release-info"), _targets("--no-release-info")]
    uri = next((uri for uri in map(choose_mirror, listings) if uri is not None), None)
    if uri is None:
        raise HostError(
            "this host's apt has no source of Debian's main archive",
            expected="a source of a Debian suite, component main",
            seen=listings[-1].strip() or "no sources at all",
            hint=f"set {MIRROR} to the address of a Debian mirror, and install Debian's keys: "
            + host.install_command(["keyring"]),
        )
    keyring = next((path for path in KEYRINGS if path.exists()), None)
    return Mirror(uri, keyring, security(listings, uri))


def named_mirror() -> Mirror | None:
    """Return the mirror of `--mirror`, the environment or the user's `config.toml`, if any.

    Raises:
        UsageError: it is no address, or its keyring does not exist.
    """
    path = platformdirs.user_config_path("vfio-lab") / "config.toml"
    try:
        settings = tomllib.loads(path.read_text("utf-8")) if path.exists() else {}
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read {path}", seen=str(error)) from error
    uri = str(os.environ.get(MIRROR) or settings.get("mirror", "")).rstrip("/")
    if not uri:
        return None
    if not re.fullmatch(r"[a-z+]+:/\S+", uri):
        raise UsageError("the Debian mirror is no address", expected="http://HOST/debian", seen=uri)
    named = os.environ.get(KEYRING) or settings.get("keyring")
    keyring = Path(named) if named else next((path for path in KEYRINGS if path.exists()), None)
    if keyring is None or not keyring.exists():
        raise UsageError(
            f"the packages of {uri} cannot be verified",
            expected=f"Debian's keys in a file that {KEYRING} names",
            seen=f"no {keyring or ' and no '.join(map(str, KEYRINGS))}",
            hint=host.install_command(["keyring"]),
        )
    return Mirror(uri, keyring, security((), uri))


def security(listings: Iterable[str], uri: str) -> str:
    """Return the URI of the security updates: the host's source, else a guess from the main URI.

    Args:
        listings: apt's index targets, each as for `choose_mirror`.
        uri: the main archive.
    """
    for line in "\n".join(listings).splitlines():
        found, release, component, _origin, label = (line.split("|") + [""] * len(FIELDS))[:5]
        known = label == SECURITY_LABEL or urlsplit(found).path.rstrip("/").endswith(SECURITY)
        if known and component == "main" and release.removesuffix(SECURITY) in SUITES:
            return found.rstrip("/")
    return uri + SECURITY if uri.endswith("/debian") else ""


def choose_mirror(listing: str) -> str | None:
    """Return the URI of Debian's main archive from apt's index targets, None if it is not there.

    Before the first `apt-get update` apt knows the suite's name but not the archive's origin and
    label, and third parties use Debian's suite names. The URI's path decides in that case.

    Args:
        listing: lines with the values of `FIELDS`, separated by bars.
    """
    ranked = []
    for position, line in enumerate(listing.splitlines()):
        uri, release, component, origin, label = (line.split("|") + [""] * len(FIELDS))[:5]
        suite = release
        for pocket in POCKETS:
            suite = suite.removesuffix(pocket)
        if suite not in SUITES or component != "main":
            continue
        known = not origin.startswith("$") and origin != ""
        if known and label not in ("Debian", "Debian Backports"):
            continue
        path = urlsplit(uri).path.strip("/").split("/")
        if not known and "debian" not in path:
            continue
        ranked.append((not known, release != suite, position, uri.rstrip("/")))
    return min(ranked)[-1] if ranked else None


@dataclass(frozen=True)
class Apt:
    """An apt that keeps its lists, state and downloads in a private folder.

    Args:
        folder: the folder.
        source: the mirror.
        log: the file that receives apt's output.
        architecture: Debian's name of the packages' architecture, the host's if empty.
    """

    folder: Path
    source: Mirror
    log: Path
    architecture: str = ""

    def prepare(self) -> None:
        """Create apt's folders and configuration in the empty folder."""
        for name in ("state/lists/partial", "cache/archives/partial"):
            (self.folder / name).mkdir(parents=True)
        config = CONFIG.format(folder=self.folder, user=_user_name())
        if self.architecture:
            config += FOREIGN.format(architecture=self.architecture)
        (self.folder / "apt.conf").write_text(config)

    def update(self, suite: str, on_percent: Callable[[float], None] = lambda _done: None) -> bool:
        """Fetch the package list of a suite and its security updates.

        Args:
            suite: the suite.
            on_percent: called with the percentage that is done.

        Returns:
            False if the mirror does not have the suite.

        Raises:
            HostError: the list cannot be fetched, or its signature is wrong.
        """
        main = (self.source.uri, suite)
        fixes = (self.source.security, suite + SECURITY)
        for entries in ([main, fixes], [main]) if self._has_fixes(suite) else ([main],):
            self._name_sources(entries)
            try:
                self._run(f"fetch the package list of {suite}", "update", on_percent=on_percent)
            except HostError as error:
                if not any(words in (error.tail or "") for words in NO_SUCH_SUITE):
                    raise
            else:
                return True
        return False

    def _name_sources(self, entries: Iterable[tuple[str, str]]) -> None:
        options = "" if self.source.keyring is None else f"[signed-by={self.source.keyring}] "
        lines = [f"deb {options}{uri} {suite} main\n" for uri, suite in entries]
        (self.folder / "sources.list").write_text("".join(lines))

    def candidate(self, name: str, suite: str) -> Package | None:
        """Return the newest version of a package in the most recently updated suite."""
        shown = self._cache("show", "--no-all-versions", name)
        fields = dict(re.findall(r"^([\w-]+): (.*)$", shown, re.MULTILINE))
        if fields.get("Package") != name:
            return None
        version = fields["Version"]
        where = suite
        if self._has_fixes(suite):
            listed = self._cache("madison", name)
            fixed = re.search(rf"\| *{re.escape(version)} \|[^|]* {suite}{SECURITY}/", listed)
            where = suite + SECURITY if fixed else suite
        return Package(name, version, where, fields["SHA256"], int(fields["Size"]))

    def needs(self, name: str) -> list[str]:
        """Return the names of a package's recursive dependencies, alternatives included."""
        shown = self._cache("depends", "--recurse", "--important", name)
        return [line for line in shown.splitlines() if line.strip() == line and line != name]

    def _has_fixes(self, suite: str) -> bool:
        return bool(self.source.security) and suite in SUITES - ROLLING

    def _cache(self, *words: str) -> str:
        return _run_quietly("apt-cache", *self._options, *words).stdout

    def names(self, pattern: str) -> list[str]:
        """Return the package names in the most recently updated suite that match a pattern."""
        shown = self._cache("pkgnames").split()
        return sorted(name for name in shown if re.fullmatch(pattern, name))

    def download(
        self,
        package: Package,
        folder: Path,
        on_percent: Callable[[float], None] = lambda _done: None,
    ) -> Path:
        """Fetch a package's file into a folder.

        Args:
            package: the package and the version to fetch.
            folder: the folder for the file.
            on_percent: called with the percentage that is done.

        Raises:
            HostError: the file cannot be fetched, or differs from the signed list.
        """
        self._run(
            f"fetch {package.name} {package.version}",
            "download",
            f"{package.name}={package.version}",
            cwd=folder,
            on_percent=on_percent,
        )
        return next(folder.glob(f"{package.name}_*.deb"))

    @property
    def _options(self) -> list[str]:
        return ["-c", os.fspath(self.folder / "apt.conf")]

    def _run(
        self,
        what: str,
        *arguments: str,
        on_percent: Callable[[float], None],
        cwd: Path | None = None,
    ) -> None:
        def follow(line: str) -> None:
            if (match := PERCENT.match(line)) is not None:
                on_percent(float(match[1]))

        command = ["apt-get", *self._options, "-q", *arguments]
        try:
            pipeline(what, command, log=self.log, on_line=follow, cwd=cwd)
        except BuildError as error:
            log = error.where or self.log  # a failed command's log is kept under another name
            words = [
                line
                for line in log.read_text(errors="replace").splitlines()
                if line.startswith(("E:", "W:", "Err:"))
            ]
            raise HostError(
                f"cannot {what}",
                seen=error.seen,
                tail="\n".join(words) or error.tail,
                where=log,
                hint=FETCH_HINT,
            ) from error


@contextlib.contextmanager
def session(cache: Cache, source: Mirror | None = None, architecture: str = "") -> Iterator[Apt]:
    """Yield an apt that works inside the cache; delete its lists at the end.

    Args:
        cache: the cache that holds apt's folder.
        source: the mirror, by default the host's.
        architecture: Debian's name of the packages' architecture, by default the host's.

    Raises:
        HostError: the host has no Debian source.
    """
    source = mirror() if source is None else source
    root = cache.open().root
    folder = root / "apt"
    with cache.lock("apt", "lists"):
        shutil.rmtree(folder, ignore_errors=True)  # left by a killed run: we hold the lock
        folder.mkdir(mode=0o700)
        try:
            tool = Apt(folder, source, root / "logs" / "apt.log", architecture)
            tool.prepare()
            yield tool
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _targets(option: str) -> str:
    template = "|".join(f"$({field})" for field in FIELDS)
    options = [option, "--format", template]
    return _run_quietly("apt-get", "indextargets", *options, "Created-By: Packages").stdout


def _run_quietly(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, check=False, capture_output=True, text=True, env=environment())


def _user_name() -> str:
    # Without root apt cannot switch users. As root, the user `_apt` cannot read the cache.
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return "root"
