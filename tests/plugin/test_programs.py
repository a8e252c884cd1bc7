"""Scenarios that are told by one run of a program, which workers must not queue for."""

import re

import pytest

pytest_plugins = ["pytester"]

SCENARIOS = """
from vfio_lab_pytest.clients import each_test

@claim("A02")
def test_before():
    '''It is so.'''

@claim("A02")
@each_test("p", ["1", "2"])
def test_of_p(program, name):
    '''It is so.'''

@claim("A02")
@each_test("q", ["1", "2"])
def test_of_q(program, name):
    '''It is so.'''
"""
STARTED = re.compile(r"PASSED \S+::test_(?:of_)?(\S+)|::test_(?:of_)?(\S+) PASSED")


def order(result):
    return ["".join(pair) for pair in STARTED.findall(str(result.stdout))]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["-n1"], ["p[p-1]", "q[q-1]", "before", "p[p-2]", "q[q-2]"]),
        (["-n1", "-k", "not p-1"], ["p[p-2]", "q[q-1]", "before", "q[q-2]"]),
        ([], ["before", "p[p-1]", "p[p-2]", "q[q-1]", "q[q-2]"]),
    ],
)
def test_workers_begin_with_each_program_and_end_with_what_else_it_told(run, words, expected):
    assert order(run(SCENARIOS, "-v", "-p", "vfio_lab_pytest.clients", *words)) == expected
