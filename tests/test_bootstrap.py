import hashlib
import platform
import re
import shutil
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILES = ("bootstrap", "pyproject.toml", "requirements.lock")
HOSTS = Path("images/hosts.toml")
CODENAME = platform.freedesktop_os_release().get("VERSION_CODENAME", "bookworm")
MIRROR = "mirror+file:/etc/apt/mirrors/debian.list"
POLICY = "qemu-system-x86:\n  Installed: (none)\n  Candidate: 1:{}+ds-1\n"


class Host:
    """A checkout on a machine whose package manager only writes down what it is told."""

    def __init__(self, folder: Path) -> None:
        self.checkout = folder / "checkout"
        self.bin = folder / "bin"
        self.calls = folder / "calls"
        self.installed = folder / "installed"
        self.sources = folder / "sources"
        self.checkout.mkdir()
        self.bin.mkdir()
        self.calls.touch()
        (self.checkout / HOSTS.parent).mkdir()
        for name in (*FILES, HOSTS):
            shutil.copy(ROOT / name, self.checkout / name)
        listing = f'tr " " "\\n" <{self.installed} | sed "s/.*/installed:& /" | tr -d "\\n"'
        install = f'shift; echo " $*" >>{self.installed}'
        self.command("dpkg-query", listing)
        self.command("apt-get", f'case " $* " in *" install "*) {install};; esac', log=True)
        self.command("apt-cache", f"[ $1 = madison ] || printf '{POLICY.format('10.0.2')}'")
        self.command("dpkg", "", log=True)
        self.command("install", f'cat "$3" >{self.sources}', log=True)
        self.command("id", "echo 0")
        self.command("sudo", "exit 1")
        self.command("sleep", "exec /bin/sleep 0.05")
        self.command("qemu-system-x86_64", f"grep -q qemu {self.installed} && echo 'name \"igb\"'")
        self.has(*self.everything)

    def command(self, name: str, body: str, *, log: bool = False) -> None:
        """Put a program in front of the real one."""
        note = f'echo "{name} $*" >>{self.calls}; env >>{self.calls}.env' if log else ":"
        path = self.bin / name
        path.write_text(f"#!/bin/sh\n{note}\n{body}\n")
        path.chmod(0o755)

    @property
    def everything(self) -> list[str]:
        """Every package that the script asks for, outside of Python's."""
        packages = tomllib.loads((ROOT / HOSTS).read_text())["debian"]["packages"]
        return sorted({*packages.values()} - {"python3", "python3-venv"})

    def has(self, *packages: str) -> None:
        """Make these all the packages that are installed."""
        self.installed.write_text(" ".join(packages) + "\n")

    def lacks(self, *packages: str) -> None:
        """Make these the packages that are missing."""
        self.has(*(name for name in self.everything if name not in packages))

    def has_environment(self) -> None:
        """Make a Python environment that the script takes for its own, made from these files."""
        python = self.checkout / ".venv/bin/python"
        python.parent.mkdir(parents=True)
        python.write_text("#!/bin/sh\n")
        python.chmod(0o755)
        sums = "".join(
            f"{hashlib.sha256((self.checkout / name).read_bytes()).hexdigest()}  {name}\n"
            for name in FILES
        )
        (self.checkout / ".venv/ready").write_text(f"{self.checkout}\n{sums}")

    def bootstrap(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run the script."""
        return subprocess.run(
            [self.checkout / "bootstrap", *words],
            env={"PATH": f"{self.bin}:/usr/bin:/bin", "HOME": str(self.checkout)},
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def told(self, program: str) -> list[str]:
        """Return what a program was called with, without the options that are always there."""
        return [
            line.partition("--force-confold ")[2] or line
            for line in self.calls.read_text().splitlines()
            if line.startswith(f"{program} ")
        ]


@pytest.fixture
def machine(tmp_path: Path) -> Host:
    made = Host(tmp_path)
    made.has_environment()
    return made


def test_the_script_is_plain_posix_shell() -> None:
    text = (ROOT / "bootstrap").read_text()
    assert text.startswith("#!/bin/sh\n")
    subprocess.run(["/bin/sh", "-n", ROOT / "bootstrap"], check=True)
    assert "://" not in text


def test_with_all_there_it_only_looks(machine: Host) -> None:
    done = machine.bootstrap()
    assert done.returncode == 0, done.stderr
    assert done.stderr == "bootstrap: ready, after 0 s\n"
    assert machine.calls.read_text() == ""


def test_a_check_changes_nothing(machine: Host) -> None:
    machine.lacks("flex", "qemu-system-x86")
    before = sorted(machine.checkout.rglob("*"))
    done = machine.bootstrap("--check")
    assert done.returncode == 1
    assert "missing host packages: flex qemu-system-x86\n" in done.stderr
    assert sorted(machine.checkout.rglob("*")) == before


@pytest.mark.parametrize("name", FILES)
def test_an_environment_of_other_files_is_out_of_date(machine: Host, name: str) -> None:
    assert machine.bootstrap("--check").returncode == 0
    with (machine.checkout / name).open("a") as file:
        file.write("# changed\n")
    done = machine.bootstrap("--check")
    assert done.returncode == 1
    assert "missing or out of date" in done.stderr


def test_an_environment_whose_python_is_gone_is_out_of_date(machine: Host) -> None:
    (machine.checkout / ".venv/bin/python").unlink()
    assert machine.bootstrap("--check").returncode == 1


def test_only_what_is_missing_is_installed_and_nobody_is_asked(machine: Host) -> None:
    machine.lacks("flex", "ccache")
    done = machine.bootstrap()
    assert done.returncode == 0, done.stderr
    assert machine.told("apt-get") == ["update", "install --no-install-recommends ccache flex"]
    assert "DEBIAN_FRONTEND=noninteractive" in Path(f"{machine.calls}.env").read_text()
    assert "DPkg::Lock::Timeout=600" in machine.calls.read_text()


def test_a_new_enough_qemu_comes_from_the_release(machine: Host) -> None:
    machine.lacks("qemu-system-x86")
    done = machine.bootstrap()
    assert done.returncode == 0, done.stderr
    assert machine.told("apt-get") == [
        "update",
        "install --no-install-recommends qemu-system-x86",
    ]
    assert not machine.sources.exists()


def old_qemu(machine: Host, madison: str = "", targets: str = "") -> None:
    machine.lacks("qemu-system-x86")
    machine.command(
        "apt-cache", f"[ $1 = madison ] && echo '{madison}' || printf '{POLICY.format('7.2.19')}'"
    )
    install = f'shift; echo " $*" >>{machine.installed}'
    machine.command(
        "apt-get",
        f'case " $* " in *" install "*) {install};; *indextargets*) printf "{targets}";; esac',
        log=True,
    )


def test_backports_come_from_the_mirror_that_the_host_has(machine: Host) -> None:
    old_qemu(
        machine,
        targets=f"stable main https://other.example/tools\n{CODENAME} main {MIRROR}/debian\n",
    )
    done = machine.bootstrap()
    assert done.returncode == 0, done.stderr
    lines = machine.sources.read_text().splitlines()
    assert lines[:4] == [
        "Types: deb",
        f"URIs: {MIRROR}/debian",
        f"Suites: {CODENAME}-backports",
        "Components: main",
    ]
    updates = [call for call in machine.told("apt-get") if "indextargets" not in call]
    assert updates == [
        "update",
        "update",
        f"install --no-install-recommends -t {CODENAME}-backports qemu-system-x86",
    ]


def test_backports_that_are_there_are_not_added_again(machine: Host) -> None:
    line = f"qemu-system-x86 | 1:10.0.2 | http://mirror.example/debian {CODENAME}-backports/main"
    old_qemu(machine, madison=line)
    done = machine.bootstrap()
    assert done.returncode == 0, done.stderr
    assert not machine.sources.exists()
    assert machine.told("apt-get")[-1].endswith(f"-t {CODENAME}-backports qemu-system-x86")


def test_a_host_without_debian_sources_is_told(machine: Host) -> None:
    old_qemu(machine)
    done = machine.bootstrap()
    assert done.returncode == 2
    assert f"no source of Debian {CODENAME} main" in done.stderr


def test_without_root_it_says_the_exact_command(machine: Host) -> None:
    machine.lacks("flex", "bison")
    machine.command("id", "echo 1000")
    done = machine.bootstrap()
    assert done.returncode == 2
    assert "apt-get update && apt-get install --no-install-recommends bison flex" in done.stderr
    assert machine.calls.read_text() == ""


def test_sudo_is_used_without_asking_for_a_password(machine: Host) -> None:
    machine.lacks("flex")
    machine.command("id", "echo 1000")
    machine.command("sudo", '[ "$1" = -n ] && shift && "$@"')
    done = machine.bootstrap()
    assert done.returncode == 0, done.stderr
    assert machine.told("apt-get")[-1] == "install --no-install-recommends flex"


def test_another_apt_is_waited_for(machine: Host, tmp_path: Path) -> None:
    machine.lacks("flex")
    lock = "E: Could not get lock /var/lib/apt/lists/lock. It is held by process 1"
    machine.command(
        "apt-get",
        f"[ -e {tmp_path}/free ] || {{ touch {tmp_path}/free; echo '{lock}'; exit 100; }}\n"
        f"echo flex >>{machine.installed}",
        log=True,
    )
    done = machine.bootstrap()
    assert done.returncode == 0, done.stderr
    assert "another apt is at work" in done.stderr
    assert machine.told("apt-get")[:2] == ["update", "update"]


def test_a_failed_step_ends_with_its_last_words(machine: Host) -> None:
    machine.lacks("flex")
    machine.command("apt-get", "echo E: Unable to fetch some archives; exit 100")
    done = machine.bootstrap()
    assert done.returncode == 2
    assert "    | E: Unable to fetch some archives\n" in done.stderr
    assert "package lists failed" in done.stderr


def test_what_an_interrupted_dpkg_left_is_finished_first(machine: Host) -> None:
    machine.lacks("flex")
    machine.command("dpkg", '[ "$1" != --audit ] || echo half-installed', log=True)
    done = machine.bootstrap()
    assert done.returncode == 0, done.stderr
    assert machine.told("dpkg") == ["dpkg --audit", "dpkg --configure -a"]


def test_long_steps_say_how_far_they_are(machine: Host) -> None:
    machine.lacks("flex")
    machine.command(
        "apt-get",
        "echo '1 upgraded, 1 newly installed, 0 to remove.'; echo 'Get:1 flex'; echo 'Get:2 bc'\n"
        "/bin/sleep 1.2; echo 'Setting up flex'",
    )
    done = machine.bootstrap()
    words = r"bootstrap: host packages: 33 %, \d s so far, about \d s left"
    assert re.search(words, done.stderr), done.stderr


@pytest.mark.parametrize("name", ["Makefile", ".ci/run"])
def test_the_main_jobs_are_there(name: str) -> None:
    text = (ROOT / name).read_text()
    assert "make check" in text or "check: setup" in text


def test_every_goal_sets_the_machine_up_first(run: Callable[[str], str]) -> None:
    for goal in ("scenarios", "check", "matrix", "lock"):
        assert run(goal).splitlines()[0] == "./bootstrap", goal
    assert "pytest scenarios/" in run("scenarios")
    assert [kernel for kernel in ("7.3", "6.12", "6.1") if kernel in run("matrix")] == [
        "7.3",
        "6.12",
        "6.1",
    ]


@pytest.fixture
def run() -> Callable[[str], str]:
    """Return what make would do for a goal."""

    def dry(goal: str) -> str:
        make = shutil.which("make")
        if make is None:
            pytest.skip("this host has no make")
        return subprocess.run(
            [make, "-n", "-C", ROOT, "--no-print-directory", goal],
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    return dry
