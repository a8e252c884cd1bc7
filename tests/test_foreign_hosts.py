"""Setting up on hosts that are not Debian: each gets the one command that helps, or a reason."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from vfio_lab.util import jail

ROOT = Path(__file__).resolve().parent.parent
FILES = ("bootstrap", "pyproject.toml", "requirements.lock", "images/hosts.toml")
MASKED = ("apt-get", "dpkg", "dpkg-query", "dpkg-deb", "sudo", "systemctl")
NOBODY = 65534
FEDORA = 'ID=fedora\nPRETTY_NAME="Fedora Linux 43"\n'

pytestmark = pytest.mark.skipif(jail.why_not() is not None, reason=f"no jail: {jail.why_not()}")


class Root:
    """This host's root file system with another os-release, and without some commands."""

    def __init__(self, folder, os_release, lacking=MASKED):
        self.checkout = folder / "checkout"
        self.commands = folder / "bin"
        self.os_release = folder / "os-release"
        self.lacking = lacking
        (self.checkout / "images").mkdir(parents=True)
        self.commands.mkdir()
        self.os_release.write_text(os_release)
        for name in FILES:
            shutil.copy(ROOT / name, self.checkout / name)
        self.command("qemu-system-x86_64", "echo 'name \"igb\"'")
        self.command("id", "echo 0")

    def command(self, name, body):
        path = self.commands / name
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)

    def run(self, *command, setup=(), **environment):
        """Run a command in the root; a masked command is there, but is not executable."""
        masks = [shutil.which(name) for name in self.lacking]
        # fmt: off
        words = [
            "bwrap", "--dev-bind", "/", "/", "--die-with-parent",
            "--ro-bind", str(self.os_release), os.path.realpath("/etc/os-release"),
            *(word for path in masks if path for word in ("--ro-bind", "/dev/null", path)),
            *setup, "--", *command,
        ]
        # fmt: on
        path = f"{self.commands}:/usr/bin:/bin:/usr/sbin"
        env = {"PATH": path, "HOME": str(self.checkout), **environment}
        return subprocess.run(
            words,
            cwd=self.checkout,
            env=env,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def bootstrap(self, *words):
        return self.run("./bootstrap", *words)


@pytest.mark.parametrize(
    ("os_release", "command"),
    [
        (FEDORA, "dnf install apt dpkg"),
        ('ID="rocky"\nID_LIKE="rhel centos fedora"\nPRETTY_NAME="Rocky Linux 10"\n', "dnf install"),
        ('ID=arch\nPRETTY_NAME="Arch Linux"\n', "pacman -S --needed apt dpkg"),
        ('ID="opensuse-tumbleweed"\nID_LIKE="opensuse suse"\n', "zypper install --no-recommends"),
    ],
)
def test_a_host_without_apt_gets_the_command_for_it(tmp_path, os_release, command):
    done = Root(tmp_path, os_release).bootstrap()
    assert done.returncode == 2
    assert "Run as root, or pass --install:\n" in done.stderr
    assert f"    {command}" in done.stderr
    assert "were never tried" in done.stderr
    assert "Anywhere else" in done.stderr


@pytest.mark.parametrize(
    ("os_release", "words"),
    [
        ('ID=alpine\nPRETTY_NAME="Alpine Linux v3.23"\n', "not on Alpine Linux v3.23: "),
        (
            'ID=haiku\nPRETTY_NAME="Haiku"\n',
            "Haiku is not in images/hosts.toml. Install these: apt",
        ),
        ("", "this host is not in images/hosts.toml"),
    ],
)
def test_a_host_that_is_not_known_gets_a_reason_and_the_container(tmp_path, os_release, words):
    done = Root(tmp_path, os_release).bootstrap()
    assert done.returncode == 2
    assert words in done.stderr
    assert "Anywhere else" in done.stderr
    assert not (tmp_path / "checkout/.venv").exists()


def test_a_debian_without_apt_gets_the_command(tmp_path):
    done = Root(tmp_path, "ID=debian\n").bootstrap()
    assert done.returncode == 2
    assert "    apt-get install --no-install-recommends apt dpkg\n" in done.stderr


def test_a_host_without_python_gets_the_package_that_has_venv(tmp_path):
    root = Root(tmp_path, FEDORA)
    root.command("python3", "exit 1")
    mask = ("--ro-bind", "/dev/null", os.path.realpath("/usr/bin/python3"))
    assert "    dnf install apt dpkg python3\n" in root.run("./bootstrap", setup=mask).stderr


@pytest.mark.parametrize("family", ["ubuntu", "fedora", "arch", "opensuse"])
def test_every_tool_has_a_package_on_every_family(family):
    known = tomllib.loads((ROOT / "images/hosts.toml").read_text())
    tools = {tool for names in known["abilities"].values() for tool in names.split()}
    lacking = tools - set(known[family]["packages"]) - set(known[family]["foreign"])
    assert lacking <= {"chromium-headless-shell", "keyring"}


def test_nothing_is_installed_without_install(tmp_path):
    root = Root(tmp_path, FEDORA)
    root.command("dnf", f"echo $* >>{tmp_path}/told")
    root.bootstrap()
    assert not (tmp_path / "told").exists()


def test_install_runs_the_command_and_looks_again(tmp_path):
    root = Root(tmp_path, FEDORA)
    root.command("dnf", f"echo $* >>{tmp_path}/told")
    done = root.bootstrap("--install", "--packages")
    assert (tmp_path / "told").read_text() == "install apt dpkg\n"
    assert (done.returncode, "still missing: apt dpkg" in done.stderr) == (2, True)


def test_what_is_installed_is_enough_on_any_host(tmp_path):
    done = Root(tmp_path, 'ID=haiku\nPRETTY_NAME="Haiku"\n', ()).bootstrap("--packages")
    assert done.returncode == 0, done.stderr


def test_a_user_without_any_privilege_gets_the_command(tmp_path):
    root = Root(tmp_path, FEDORA)
    root.command("id", f"echo {NOBODY}")
    done = root.bootstrap("--install")
    assert done.returncode == 2
    assert "no way to become root for: dnf install apt dpkg" in done.stderr


def test_an_unknown_option_is_refused(tmp_path):
    done = Root(tmp_path, FEDORA).bootstrap("--instal")
    assert done.returncode == 2
    assert "there is no option --instal" in done.stderr


@pytest.fixture
def doctor(tmp_path):
    def run(os_release, **more):
        root = Root(tmp_path, os_release)
        code = "import sys; from vfio_lab.cli import main; main(sys.argv[1:])"
        cache = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
        return root.run(sys.executable, "-c", code, "doctor", **{**cache, **more})

    return run


def test_the_doctor_says_the_command_of_a_foreign_host(doctor):
    shown = doctor(FEDORA)
    assert shown.returncode == 2
    assert "no apt-get, dpkg-deb (kernel)" in shown.stdout
    assert "-> dnf install apt dpkg\n" in shown.stdout
    assert "Fedora Linux 43: these names of packages were never tried" in shown.stdout


def test_the_doctor_points_an_unknown_host_to_the_container(doctor):
    shown = doctor("ID=haiku\n")
    assert "-> install apt-get dpkg-deb, or use the container (README.md)" in shown.stdout
