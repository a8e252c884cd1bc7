import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from vfio_lab import cli
from vfio_lab.cli import main
from vfio_lab.cli.doctor import (
    FAIL,
    OK,
    WARN,
    Finding,
    examine,
)
from vfio_lab.errors import (
    BuildError,
    HostError,
    LabError,
    UsageError,
)
from vfio_lab.hw.catalogue import TOPOLOGIES
from vfio_lab.image import rootfs
from vfio_lab.kernels import packaged
from vfio_lab.qemu import accelerator, capabilities
from vfio_lab.qemu.accelerator import Accelerator
from vfio_lab.qemu.capabilities import QemuCaps
from vfio_lab.util import host
from vfio_lab.util.cache import Cache
from vfio_lab.util.host import Tool

EVERY_DEVICE = frozenset(name for made in TOPOLOGIES.values() for name in made.qemu_devices)
CAPS = QemuCaps(Path("/usr/bin/qemu-system-x86_64"), (10, 0, 2), EVERY_DEVICE, "0")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return Cache.default().open()


@pytest.fixture
def fit_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that has all it takes, and nothing built."""
    monkeypatch.setattr(capabilities, "probe_qemu", lambda: CAPS)
    found = Accelerator("tcg", "there is no /dev/kvm")
    monkeypatch.setattr(accelerator, "choose_accelerator", lambda *_: found)
    monkeypatch.setattr(host, "missing", lambda _purpose: [])
    monkeypatch.setattr(host, "free_bytes", lambda _folder: 50 << 30)
    monkeypatch.setattr(host, "memory_bytes", lambda: (8 << 30, 4 << 30))
    monkeypatch.setattr(rootfs, "need_namespaces", lambda: None)


def run(*words: str) -> Result:
    return CliRunner().invoke(main, words)


def failing(error: BaseException) -> click.Command:
    def fail() -> None:
        raise error

    return click.Command("fail", callback=fail)


def by_name(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.name: finding for finding in findings}


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (UsageError("there is no kernel '9.9'"), 2, "there is no kernel '9.9'"),
        (HostError("no gcc", hint="apt-get install gcc"), 2, "hint: apt-get install gcc"),
        (BuildError("cannot compile", tail=""), 125, "<empty>"),
        (LabError("something"), 125, "something"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (click.UsageError("no such option"), 2, "no such option"),
    ],
)
def test_an_error_ends_the_command_with_its_message_and_code(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, words: str
) -> None:
    monkeypatch.setattr(cli.Lab, "get_command", lambda *_: failing(error))
    result = run("fail")
    assert result.exit_code == code
    assert words in result.stderr
    assert "Traceback" not in result.output


def test_a_command_that_is_told_to_end_cleans_up(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGTERM)

    def work() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            click.echo("cleaned up")

    monkeypatch.setattr(cli.Lab, "get_command", lambda *_: click.Command("work", callback=work))
    result = run("work")
    assert (result.exit_code, result.output) == (143, "cleaned up\n")
    assert signal.getsignal(signal.SIGTERM) is before


def test_an_unknown_command_is_a_usage_error() -> None:
    result = run("nope")
    assert result.exit_code == 2
    assert "No such command 'nope'" in result.stderr


def test_help_lists_every_command_and_imports_none() -> None:
    script = (
        "import sys; from vfio_lab.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print([name for name in sys.modules if name.startswith('vfio_lab.cli.')])"
    )
    shown = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    *help_text, imported = shown.stdout.splitlines()
    assert imported == "[]"
    for name in cli.COMMANDS:
        assert any(line.split()[:1] == [name] for line in help_text), name


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_the_short_help_is_the_commands_own(name: str) -> None:
    command = main.get_command(click.Context(main), name)
    assert command is not None
    assert command.name == name
    assert run(name, "--help").exit_code == 0


def test_a_missing_module_breaks_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(cli.COMMANDS, "absent", "Not written.")
    result = run("--help")
    assert result.exit_code == 0
    assert "absent" not in result.output


def test_a_reader_that_leaves_is_no_error() -> None:
    piped = f"{sys.executable} -c 'from vfio_lab.cli import main; main()' --help | true"
    ended = subprocess.run(["/bin/sh", "-c", piped], capture_output=True, text=True, check=True)
    assert ended.stderr == ""


@pytest.mark.usefixtures("fit_host")
def test_a_fit_host_passes_with_all_facts(cache: Cache) -> None:
    del cache
    result = run("doctor", "--json")
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    assert report["fit"] is True
    seen = {finding["name"]: finding["seen"] for finding in report["findings"]}
    assert seen["qemu"] == "10.0.2 at /usr/bin/qemu-system-x86_64"
    assert seen["accelerator"] == "tcg: there is no /dev/kvm"
    assert "not built yet" in seen["kernel"]
    assert "not built yet" in seen["image"]
    assert {"devices", "disk", "memory", "cores"} <= set(seen)


@pytest.mark.usefixtures("fit_host")
def test_without_qemu_the_doctor_says_what_to_install(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def probe() -> QemuCaps:
        raise HostError("qemu-system-x86_64 is not on PATH", hint="apt-get install it")

    del cache
    monkeypatch.setattr(capabilities, "probe_qemu", probe)
    result = run("doctor")
    assert result.exit_code == 2
    assert "X qemu" in result.stdout
    assert "-> apt-get install it" in result.stdout
    assert "cannot run here yet" in result.stdout


@pytest.mark.usefixtures("fit_host")
@pytest.mark.parametrize(("version", "said"), [((8, 2, 2), True), ((10, 0, 2), False)])
def test_a_qemu_that_loses_vfs_is_told_from_one_that_does_not(
    cache: Cache, monkeypatch: pytest.MonkeyPatch, version: tuple[int, int, int], said: bool
) -> None:
    found = QemuCaps(CAPS.binary, version, EVERY_DEVICE, "0")
    monkeypatch.setattr(capabilities, "probe_qemu", lambda: found)
    warnings = [one.seen for one in examine(cache) if (one.name, one.state) == ("qemu", WARN)]
    assert any("VFs may vanish" in seen for seen in warnings) == said


@pytest.mark.usefixtures("fit_host")
def test_a_device_that_qemu_lacks_costs_its_topologies_only(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    poorer = QemuCaps(CAPS.binary, CAPS.version, EVERY_DEVICE - {"virtio-iommu-pci"}, "0")
    monkeypatch.setattr(capabilities, "probe_qemu", lambda: poorer)
    lacking = [finding for finding in examine(cache) if finding.state == WARN]
    assert lacking
    assert all(finding.name == "devices" for finding in lacking)
    assert "topology virtio-iommu cannot run: no virtio-iommu-pci" in lacking[0].seen


@pytest.mark.usefixtures("fit_host")
@pytest.mark.parametrize(("built", "state"), [(False, FAIL), (True, WARN)])
def test_a_missing_compiler_matters_only_while_the_kernel_is_not_built(
    cache: Cache, monkeypatch: pytest.MonkeyPatch, built: bool, state: str
) -> None:
    some = packaged.Kernel("7.3", "7.3.4-lab", (7, 3, 4), Path("b"), Path("m"), Path("c"), "0")
    gcc = Tool("gcc", "kernel")
    monkeypatch.setattr(packaged, "find_packaged_kernel", lambda *_: some if built else None)
    monkeypatch.setattr(host, "missing", lambda purpose: [gcc] if purpose == "kernel" else [])
    finding = by_name(list(examine(cache)))["tools"]
    assert finding.state == state
    assert finding.seen == "no gcc (kernel)"
    assert finding.hint.endswith("apt-get install --no-install-recommends gcc")


@pytest.mark.usefixtures("fit_host")
def test_little_room_and_memory_keep_the_lab_from_running(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "free_bytes", lambda _folder: 1 << 20)
    monkeypatch.setattr(host, "memory_bytes", lambda: (1 << 30, 100 << 20))
    found = by_name(list(examine(cache)))
    assert found["disk"].state == FAIL
    assert "1 MB free" in found["disk"].seen
    assert found["memory"].state == FAIL
    assert found["cores"].state == OK


def test_an_image_that_is_not_built_is_shown_as_recipe(cache: Cache) -> None:
    del cache
    shown = json.loads(run("image", "show", "--json").stdout)
    assert shown["suite"] == "trixie"
    assert shown["path"] is None
    assert "python3" in shown["asked_for"]
    assert "not built yet" in run("image", "show").stdout


def test_the_cache_is_shown_and_cleaned_of_what_is_cheap(cache: Cache) -> None:
    def build(scratch: Path) -> None:
        (scratch / "file").write_bytes(b"0" * 5000)

    for kind in ("template", "kernel", "keys"):
        cache.obtain(kind, "0", build)
    assert "template        1" in run("cache", "show").stdout
    assert run("cache", "clean").exit_code == 0
    assert [cache.keys(kind) for kind in ("template", "kernel", "keys")] == [[], ["0"], ["0"]]
    assert run("cache", "clean", "--all").exit_code == 0
    assert [cache.keys(kind) for kind in ("template", "kernel", "keys")] == [[], [], ["0"]]


def test_a_build_that_runs_keeps_its_scratch_folder(cache: Cache) -> None:
    def build(scratch: Path) -> None:
        run("cache", "clean")
        (scratch / "file").write_text("still here")

    entry = cache.obtain("template", "0", build)
    assert (entry / "file").read_text() == "still here"
