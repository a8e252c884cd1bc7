"""Debian packages without root: an apt of the lab's own, on the mirror that the host already uses.

The host's apt tells where its packages come from and how to get there (proxies, certificates);
lists, state and downloads are the lab's. Signatures and sums are checked by apt, always.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from vfio_lab.errors import BuildError, HostError
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
ROLLING = frozenset(("sid", "unstable"))  # fixes arrive there by themselves
NO_SUCH_SUITE = ("does not have a Release file", "no longer has a Release file")
PERCENT = re.compile(r"dlstatus:\d+:(\d+(?:\.\d+)?):")
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


@dataclass(frozen=True)
class Mirror:
    """Where Debian's packages come from.

    Args:
        uri: the archive, as apt's sources name it.
        keyring: what its signatures are checked with; None leaves that to apt's own keys.
        security: the archive of security updates, empty if none is known.
    """

    uri: str
    keyring: Path | None
    security: str = ""


@dataclass(frozen=True)
class Package:
    """One version of a package, as a signed list names it.

    Args:
        name: of the package.
        version: Debian's, with its revision.
        suite: whose list names it.
        sha256: of the file.
        size_bytes: of the file.
    """

    name: str
    version: str
    suite: str
    sha256: str
    size_bytes: int


def mirror() -> Mirror:
    """Return the Debian mirror that this host uses.

    Raises:
        HostError: the host has no Debian source.
    """
    # Without release files apt hides the targets, unless told not to look for them.
    listings = [_targets("--release-info"), _targets("--no-release-info")]
    uri = next((uri for uri in map(choose_mirror, listings) if uri is not None), None)
    if uri is None:
        raise HostError(
            "this host's apt has no source of Debian's main archive",
            expected="a source of a Debian suite, component main",
            seen=listings[-1].strip() or "no sources at all",
            hint="add a Debian mirror to /etc/apt/sources.list.d (no need to install from it)"
            " and the package debian-archive-keyring",
        )
    keyring = next((path for path in KEYRINGS if path.exists()), None)
    return Mirror(uri, keyring, security(listings, uri))


def security(listings: Iterable[str], uri: str) -> str:
    """Return the archive of security updates: the host's, else where it is beside the main one.

    Args:
        listings: as for `choose`.
        uri: the main archive.
    """
    for line in "\n".join(listings).splitlines():
        found, release, component, _origin, label = (line.split("|") + [""] * len(FIELDS))[:5]
        known = label == SECURITY_LABEL or urlsplit(found).path.rstrip("/").endswith(SECURITY)
        if known and component == "main" and release.removesuffix(SECURITY) in SUITES:
            return found.rstrip("/")
    return uri + SECURITY if uri.endswith("/debian") else ""


def choose_mirror(listing: str) -> str | None:
    """Return the URI of Debian's main archive among apt's index targets, if it is there.

    Before the first update apt knows the suite's name but nothing that the archive says of
    itself, and third parties name their suites like Debian's. Then the address must tell.

    Args:
        listing: lines of `FIELDS`, separated by bars.
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
    """An apt whose lists, state and downloads are in a folder of its own.

    Args:
        folder: the folder.
        source: the mirror.
        log: file for what apt says.
    """

    folder: Path
    source: Mirror
    log: Path

    def prepare(self) -> None:
        """Lay out the folder, which is empty."""
        for name in ("state/lists/partial", "cache/archives/partial"):
            (self.folder / name).mkdir(parents=True)
        config = CONFIG.format(folder=self.folder, user=_user_name())
        (self.folder / "apt.conf").write_text(config)

    def update(self, suite: str, on_percent: Callable[[float], None] = lambda _done: None) -> bool:
        """Fetch the list of a suite, security updates included; return False if there is none.

        Raises:
            HostError: the list could not be had, or its signature is wrong.
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
        """Return the newest version of a package in the suite that was updated last."""
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
        """Return the names that a package depends on, directly or not, alternatives too."""
        shown = self._cache("depends", "--recurse", "--important", name)
        return [line for line in shown.splitlines() if line.strip() == line and line != name]

    def _has_fixes(self, suite: str) -> bool:
        return bool(self.source.security) and suite in SUITES - ROLLING

    def _cache(self, *words: str) -> str:
        return _said("apt-cache", *self._options, *words).stdout

    def names(self, pattern: str) -> list[str]:
        """Return the names in the suite that was updated last which match a pattern."""
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
            folder: where the file goes.
            on_percent: called with the percentage that is done.

        Raises:
            HostError: it could not be had, or is not what the signed list says.
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
            words = [
                line
                for line in self.log.read_text(errors="replace").splitlines()
                if line.startswith(("E:", "W:", "Err:"))
            ]
            raise HostError(
                f"cannot {what}",
                seen=error.seen,
                tail="\n".join(words) or error.tail,
                where=self.log,
                hint=FETCH_HINT,
            ) from error


@contextlib.contextmanager
def session(cache: Cache, source: Mirror | None = None) -> Iterator[Apt]:
    """Yield an apt that works inside the cache; its lists are dropped at the end.

    Args:
        cache: where it works.
        source: the mirror, by default the host's.

    Raises:
        HostError: the host has no Debian source.
    """
    source = mirror() if source is None else source
    root = cache.open().root
    folder = root / "apt"
    with cache.lock("apt", "lists"):
        shutil.rmtree(folder, ignore_errors=True)  # we hold the lock: its owner was killed
        folder.mkdir(mode=0o700)
        try:
            tool = Apt(folder, source, root / "logs" / "apt.log")
            tool.prepare()
            yield tool
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _targets(option: str) -> str:
    template = "|".join(f"$({field})" for field in FIELDS)
    options = [option, "--format", template]
    return _said("apt-get", "indextargets", *options, "Created-By: Packages").stdout


def _said(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, check=False, capture_output=True, text=True, env=environment())


def _user_name() -> str:
    # Without root apt drops to nobody anyway; as root its own user cannot enter the cache.
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return "root"
