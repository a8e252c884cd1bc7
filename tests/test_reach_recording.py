"""The map of a run: which scenario ran which lines, by a real compiler's debugging information."""

import shutil
import struct
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from vfio_lab.campaign import reach_recording, translated
from vfio_lab.campaign.results import Outcome, Record, Results, read_results

MODULE = """\
static inline int small(int n)
{
	return n + 1;
}

int chosen(int n, int *seen)
{
	if (n > 1) {
		*seen = small(n);
		return 7;
	}
	return 0;
}

int __attribute__((cold)) rare(int n)
{
	return n;
}
"""
BUILT_IN = """\
int really_probe(int n)
{
	return n;
}
"""
MAKEFILE = "VERSION = 7\nPATCHLEVEL = 3\nSUBLEVEL = 4\n"
COMMAND = """\
source_drivers/vfio/x.o := ../drivers/vfio/x.c

deps_drivers/vfio/x.o := \\
    $(wildcard include/config/VFIO) \\
  ../include/linux/vfio.h \\
"""
TEXT = 0x1000000
LOADED, ELSEWHERE = 0x20000000, 0x20100000
FILE, CORE = "drivers/vfio/x.c", "drivers/base/dd.c"
FLAGS = (
    "-O2",
    "-gdwarf-5",
    "-ffreestanding",
    "-fno-pic",
    "-mcmodel=kernel",
    "-fcf-protection=none",
)
LONG, SHORT, TEMPLATE = "t.py::long", "t.py::short", 4
PROGRAM = "t.py::passes[some_test-{}]"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """The build folder of a small kernel: an image, and a module with its sources."""
    tree, folder = tmp_path, tmp_path / "out"
    for top in (tree, folder):
        (top / "drivers/vfio").mkdir(parents=True)
        (top / "drivers/base").mkdir()
    (tree / "Makefile").write_text(MAKEFILE)
    (tree / FILE).write_text(MODULE)
    (tree / CORE).write_text(BUILT_IN)
    (folder / "drivers/vfio/.x.o.cmd").write_text(COMMAND)
    (folder / "drivers/base/.dd.o.cmd").write_text("")
    gcc, ld = shutil.which("gcc"), shutil.which("ld")
    for source, made in ((FILE, "drivers/vfio/x.ko"), (CORE, "dd.o")):
        subprocess.run([gcc, *FLAGS, "-c", "-o", made, f"../{source}"], cwd=folder, check=True)
    where = f"-Ttext={translated.KERNEL + TEXT:#x}"
    subprocess.run([ld, "-e", "0", where, "-o", "vmlinux", "dd.o"], cwd=folder, check=True)
    return folder


def symbols(path: Path) -> dict[str, tuple[int, int]]:
    """Return the address and the size of each function."""
    done = subprocess.run(
        [shutil.which("nm"), "-S", path], check=True, capture_output=True, text=True
    )
    words = (line.split() for line in done.stdout.splitlines())
    return {one[3]: (int(one[0], 16), int(one[1], 16)) for one in words if len(one) == 4}


def write_ran(path: Path, *blocks: tuple[int, int]) -> None:
    """Write the blocks that a guest ran as the plugin does, with unused entries behind them."""
    path.write_bytes(b"".join(struct.pack("II", *block) for block in blocks) + bytes(64))


@pytest.fixture
def run(out: Path, tmp_path: Path) -> Results:
    """A run of two scenarios, of which one loaded the module again, and of one that was skipped."""
    ran, folder = tmp_path / "ran", tmp_path / "run"
    ran.mkdir()
    at, size = symbols(out / "drivers/vfio/x.ko")["chosen"]
    code = symbols(out / "drivers/vfio/x.ko")["rare"][1]
    rare = at + size  # the loader puts .text.unlikely behind .text
    write_ran(ran / "template-igb-7.3.1", (TEXT, 4))
    write_ran(ran / "short.2", (LOADED + at, 3))
    write_ran(ran / "long.3", (LOADED + at, size), (ELSEWHERE + rare, code))
    for name, places in (("short", [LOADED]), ("long", [LOADED, ELSEWHERE])):
        (folder / name).mkdir(parents=True)
        lines = [f"x 20480 0 - Live {translated.KERNEL + at:#x}\n" for at in places]
        (folder / name / translated.MODULES).write_text("".join(lines))
    records = [
        Record(f"t.py::{name}", (), "igb", Outcome.PASSED, "", 1.0, name)
        for name in ("short", "long")
    ]
    records.append(Record("t.py::skipped", (), "igb", Outcome.SKIPPED, "no", 0.0, ""))
    Results({"name": "7.3"}, {}, 0.0, 0.0, 0, tuple(records)).write(folder)
    return read_results(folder)


def test_a_line_is_of_the_scenarios_that_ran_it(run: Results, out: Path, tmp_path: Path) -> None:
    reach = reach_recording.make_reach(run, tmp_path / "ran", out, tmp_path)
    assert (reach.kernel, reach.names) == ("7.3.4", (LONG, SHORT))
    long, short = 1, 2
    chosen = reach.files[FILE]["chosen"].lines
    assert chosen[2] == long | short
    assert {chosen[3], chosen[4]} == {long}
    assert reach.files[FILE]["small"].lines[2] == long  # although the compiler inlined it
    assert reach.files[FILE]["rare"].scenarios == long
    assert reach.files[CORE]["really_probe"].scenarios == TEMPLATE
    assert reach.all_of(TEMPLATE) == long | short
    assert reach.effort[0] > reach.effort[1] > 0


def test_the_headers_are_those_that_the_compiler_read(
    run: Results, out: Path, tmp_path: Path
) -> None:
    reach = reach_recording.make_reach(run, tmp_path / "ran", out, tmp_path)
    assert reach.headers == {"include/linux/vfio.h": (FILE,)}


def test_what_a_program_ran_is_of_all_its_scenarios(
    run: Results, out: Path, tmp_path: Path
) -> None:
    first, second, other = (PROGRAM.format(name) for name in ("fixture.a", "fixture.b", "c"))
    alone = "t.py::passes[other_test-a]"
    records = [replace(run.scenarios[0], nodeid=second)]
    records += [
        replace(records[0], nodeid=name, evidence="", topology="") for name in (first, other, alone)
    ]
    reach = reach_recording.make_reach(
        replace(run, scenarios=tuple(records)), tmp_path / "ran", out, tmp_path
    )
    assert reach.names == (other, first, second)
    assert reach.files[FILE]["chosen"].lines[2] == 0b111
    assert reach.all_of(1 << 3) == 0b111
    assert len(set(reach.effort)) == 1


def test_a_qemu_with_the_plugin_writes_what_a_guest_runs(tmp_path: Path) -> None:
    qemu = Path(shutil.which("qemu-system-x86_64") or pytest.skip("needs QEMU"))
    made = translated.write_wrapper(tmp_path, qemu)
    command = [made, "-name", "guest=few,process=x", "-machine", "none", "-accel", "tcg"]
    command += ["-display", "none", "-monitor", "stdio"]
    done = subprocess.run(command, input="quit\n", text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    (ran,) = (tmp_path / "ran").iterdir()
    assert ran.name.startswith("few.")
    assert translated.read_blocks(ran) == set()
