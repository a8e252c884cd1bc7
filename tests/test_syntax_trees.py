"""Formatting a failure in one thread does not break in another, on the Pythons that do so."""

import ast
import subprocess
import sys

import pytest

from vfio_lab_pytest.plugin import load_parts

# Garbage collection in the middle of a parse runs a finalizer that lets another thread in, which
# formats a traceback; on 3.11 that is a parse too, and only the interpreter's own counter knows.
PROVOKE = """
import ast, sys, threading, time, traceback

if sys.argv[1] == "guarded":
    from vfio_lab.util.syntax_trees import guard_parsing
    guard_parsing()
source = open(ast.__file__).read()
over = False
broken = []

class Litter:
    def __init__(self):
        self.me = self
    def __del__(self):
        time.sleep(0)

def others():
    while not over:
        try:
            1 / 0 + int("x")
        except ZeroDivisionError:
            try:
                traceback.format_exc()
            except (SystemError, RecursionError) as error:
                broken.append(error)

def litter():
    while not over:
        Litter()
        time.sleep(0.0001)

threads = [threading.Thread(target=work) for work in (others, litter)]
for thread in threads:
    thread.start()
try:
    for _ in range(int(sys.argv[2])):
        ast.parse(source)
        Litter()
        if broken:
            break
except (SystemError, RecursionError) as error:
    broken.append(error)
finally:
    over = True
for thread in threads:
    thread.join()
print(broken[0] if broken else "none")
"""
AFFECTED = (3, 11, 0) <= sys.version_info < (3, 11, 5)


def provoke(folder, how, times):
    script = folder / "provoke.py"  # a traceback without a source has no carets
    script.write_text(PROVOKE)
    command = [sys.executable, str(script), how, str(times)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.skipif(not AFFECTED, reason="this Python does not have the fault")
def test_without_the_guard_it_breaks(tmp_path):
    assert "recursion depth" in provoke(tmp_path, "plain", 400)


def test_with_the_guard_two_threads_may_parse(tmp_path):
    assert provoke(tmp_path, "guarded", 30) == "none"


def test_every_run_that_uses_the_lab_is_guarded(pytestconfig):
    load_parts(pytestconfig)
    assert sys.version_info >= (3, 13) or hasattr(ast.parse, "__wrapped__")
