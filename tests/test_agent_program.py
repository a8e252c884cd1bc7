"""The agent as a program: compiled once, the same everywhere, and clear about what it lacks."""

import shutil
import subprocess

import pytest

from vfio_lab.errors import HostError
from vfio_lab.image import agent
from vfio_lab.util import host
from vfio_lab.util.cache import Cache
from vfio_lab.util.host import Tool

GCC = Tool("gcc", "agent")


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "cache")


def test_it_is_compiled_once_and_the_same_everywhere(cache, tmp_path):
    path = agent.build_agent(cache)
    made = path.stat()
    assert agent.build_agent(cache) == path
    assert path.stat() == made
    other = agent.build_agent(Cache(tmp_path / "other"))
    assert other.read_bytes() == path.read_bytes()


def test_it_needs_no_library_of_its_image(cache):
    readelf = [shutil.which("readelf"), "--program-headers", agent.build_agent(cache)]
    segments = subprocess.run(readelf, capture_output=True, check=True).stdout
    assert b"LOAD" in segments
    assert b"INTERP" not in segments


def test_one_that_was_compiled_elsewhere_serves_a_host_without_a_compiler(cache, monkeypatch):
    path = agent.build_agent(cache)
    monkeypatch.setattr(host, "missing", lambda _purpose: [GCC])
    assert agent.build_agent(cache) == path


def test_without_a_compiler_and_without_one_it_is_told_what_to_install(cache, monkeypatch):
    agent.build_agent(cache, ("-O0", "-static"))  # of other flags, which are not these
    monkeypatch.setattr(host, "missing", lambda _purpose: [GCC])
    with pytest.raises(HostError) as error:
        agent.build_agent(cache)
    assert error.value.seen == "no gcc"
    assert error.value.hint.endswith("apt-get install --no-install-recommends gcc")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [([], 2, "usage: agent PORT"), (["/nonexistent"], 1, "/nonexistent: No such file")],
)
def test_started_wrongly_it_says_so(cache, arguments, code, said):
    command = [agent.build_agent(cache), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert done.stderr.startswith(said)
