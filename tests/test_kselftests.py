"""A tree's own selftests: listed by its makefiles, compiled by the real make and compiler."""

import shutil
import subprocess
from pathlib import Path, PurePath

import pytest

from vfio_lab.kernels import kselftests
from vfio_lab.kernels.kbuild import Bench, Job
from vfio_lab.kernels.kselftests import Program
from vfio_lab.util.cache import Cache
from vfio_lab.workloads import selftests

GCC = shutil.which("gcc") or "/usr/bin/gcc"
PROGRAM = '#include <stdio.h>\nint main(void) { puts("ok 1 %s"); return 0; }\n'
# As kselftest_harness.h waits, by 6.12 with alarm(); alarm(0) says what was left.
WAITS = """
#include <poll.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>
int main(void) {
    struct timespec began, now;
    clock_gettime(CLOCK_MONOTONIC, &began);
    poll(0, 0, 20);
    clock_gettime(CLOCK_MONOTONIC, &now);
    alarm(30);
    printf("%ld", (now.tv_sec - began.tv_sec) * 1000 + (now.tv_nsec - began.tv_nsec) / 1000000);
    printf(" %u\\n", alarm(0));
}
"""
# As much of the kernel's makefiles as it takes: who runs whom with which variables.
ALL = """\
all:
	@for t in $(TARGETS); do $(MAKE) -C $$t OUTPUT=$(O)/kselftest/$$t || failed=1; done; \\
	test -z $$failed
"""
VFIO = """\
TEST_GEN_PROGS := vfio_new_test vfio_bad_test
TEST_PROGS := run.sh
include ../lib.mk
"""
LIB = """\
all: $(addprefix $(OUTPUT)/,$(TEST_GEN_PROGS))
$(OUTPUT)/%: %.c
	@mkdir -p $(OUTPUT)
	$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $<
emit_tests:
	@for t in $(TEST_GEN_PROGS) $(TEST_PROGS); do echo "$(COLLECTION):$$t"; done
"""


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = Bench(Job("linux", (), (), 0), tmp_path / "work", Cache(tmp_path / "cache").open())
    files = {
        "Makefile": "headers:\n\t@mkdir -p $(O)\n",
        "tools/testing/selftests/Makefile": ALL,
        "tools/testing/selftests/lib.mk": LIB,
        "tools/testing/selftests/vfio/Makefile": VFIO,
        "tools/testing/selftests/vfio/vfio_new_test.c": PROGRAM % "new",
        "tools/testing/selftests/vfio/vfio_bad_test.c": PROGRAM % "bad" + "oops\n",
        "tools/testing/selftests/vfio/run.sh": "#!/bin/sh\n",
        "tools/testing/selftests/iommu/Makefile": "TEST_GEN_PROGS := iommufd\ninclude ../lib.mk\n",
        "tools/testing/selftests/iommu/config": "CONFIG_IOMMUFD_TEST=y\n",
        "tools/testing/selftests/iommu/iommufd.c": PROGRAM % "iommufd",
    }
    for name, text in files.items():
        (made.tree / name).parent.mkdir(parents=True, exist_ok=True)
        (made.tree / name).write_text(text)
    return made


@pytest.fixture
def product(tmp_path: Path) -> Path:
    folder = tmp_path / "product"
    folder.mkdir()
    return folder


def test_what_the_makefiles_list_is_built_and_what_is_not_says_why(
    bench: Bench, product: Path
) -> None:
    kselftests.add_selftests(bench, product)
    good, bad, script, iommufd = kselftests.programs(product)
    assert good == Program("vfio/vfio_new_test")
    assert bad.flaw.startswith("it does not build: vfio_bad_test.c:3: error: ")
    assert script.flaw == "it is a script, and guests run programs only"
    assert iommufd == Program("iommu/iommufd", "", ("IOMMUFD_TEST",))
    (product / "selftests" / good.file).chmod(0o700)
    said = subprocess.run([product / "selftests" / good.file], capture_output=True, check=True)
    assert said.stdout == b"ok 1 new\n"
    assert sorted(selftests.own_selftest_files(product)) == [
        "selftests/own-iommu-iommufd",
        "selftests/own-vfio-vfio_new_test",
    ]


def test_they_are_built_once_for_all_kernels_with_the_same_tests(
    bench: Bench, product: Path, tmp_path: Path
) -> None:
    kselftests.add_selftests(bench, product)
    (bench.tree / "drivers/vfio").mkdir(parents=True)
    (bench.tree / "drivers/vfio/vfio_main.c").touch()
    kselftests.add_selftests(bench, tmp_path)
    assert len(bench.cache.keys(kselftests.KIND)) == 1
    (bench.tree / "tools/testing/selftests/vfio/vfio_new_test.c").write_text(PROGRAM % "newer")
    other = tmp_path / "other"
    other.mkdir()
    kselftests.add_selftests(bench, other)
    assert b"newer" in (other / "selftests/own-vfio-vfio_new_test").read_bytes()


def test_they_wait_ten_times_as_long_for_a_test(bench: Bench, tmp_path: Path) -> None:
    """The harness ends a test by the guest's clock, which runs on while the host is busy."""
    (tmp_path / "wait.c").write_text(WAITS)
    bench.work.mkdir(exist_ok=True)
    words = kselftests.longer_waits(bench).partition("=")[2].split()
    subprocess.run([GCC, *words, "-o", tmp_path / "wait", tmp_path / "wait.c"], check=True)
    said = subprocess.run([tmp_path / "wait"], capture_output=True, text=True, check=True).stdout
    slept_ms, until_alarm_s = map(int, said.split())
    assert (slept_ms >= 200, until_alarm_s) == (True, 300)


def test_a_tree_without_them_has_none(tmp_path: Path, product: Path) -> None:
    bench = Bench(Job("linux", (), (), 0), tmp_path / "work", Cache(tmp_path / "cache").open())
    bench.tree.mkdir(parents=True)
    kselftests.add_selftests(bench, product)
    assert kselftests.programs(product) == []
    assert list(product.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "concerned"),
    [
        ("tools/testing/selftests/vfio/lib/libvfio.c", True),
        ("tools/testing/selftests/iommu/iommufd.c", True),
        ("tools/testing/selftests/mm/x.c", False),
        ("drivers/vfio/vfio_main.c", False),
    ],
)
def test_a_series_that_changes_them_is_noticed(name: str, concerned: bool) -> None:
    assert kselftests.concern([PurePath(name)]) is concerned
