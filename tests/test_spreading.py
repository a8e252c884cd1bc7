"""Words about hosts: what the user writes, and what workers on other hosts are told."""

from pathlib import PurePosixPath

import pytest

from vfio_lab.campaign.furnishing import xspec
from vfio_lab.campaign.runs import Choice
from vfio_lab.campaign.worker_files import Furnished, lacking
from vfio_lab.campaign.worker_hosts import Reached, WorkerHost
from vfio_lab.errors import UsageError
from vfio_lab.util.cache_archive import Contents, Entry
from vfio_lab_pytest.spreading import worker_words

KERNEL, TEMPLATE = Entry("kernel", "k"), Entry("template", "igb-1")
CONTENTS = Contents((KERNEL, TEMPLATE))


def test_hosts_have_names_and_numbers_of_guests():
    one, two = WorkerHost("one"), WorkerHost("root@two", 4)
    assert WorkerHost.parse("one, root@two*4") == (one, two)


@pytest.mark.parametrize(
    "text", ["", "one,", "one*0", "one*x", "-oProxyCommand=x", "a b", "one,one*2"]
)
def test_no_list_of_hosts_is_refused_in_one_line(text):
    with pytest.raises(UsageError, match="cannot use the hosts"):
        WorkerHost.parse(text)


def test_a_host_whose_qemu_differs_gets_no_templates():
    facts = {"digest": "theirs", "lacking": [["kernel", "k"], ["template", "igb-1"]]}
    assert lacking(CONTENTS, facts, "theirs").entries == (KERNEL, TEMPLATE)
    assert lacking(CONTENTS, facts, "ours").entries == (KERNEL,)


def test_what_a_host_has_is_not_sent_again():
    facts = {"digest": "ours", "lacking": [["template", "igb-1"]]}
    assert lacking(CONTENTS, facts, "ours").entries == (TEMPLATE,)


def test_execnet_is_told_of_a_hosts_workers():
    reached = Reached(WorkerHost("one"), 3, PurePosixPath("/there"))
    python = reached.python(PurePosixPath("/there/site"))
    project = PurePosixPath("/there/project")
    words = xspec(Furnished(reached, python, project), project)
    assert words.startswith("ssh=-o ")
    assert words.endswith(
        " one//python=env PYTHONPATH=/there/site python3 -P -S//chdir=/there/project"
    )


def test_a_worker_elsewhere_gets_whole_paths_and_no_stray_values(tmp_path):
    (tmp_path / "kept").mkdir()
    words = ["-q", "--lab-artifacts", "kept", "scenarios/x.py::test", "-k", "token"]
    told = worker_words(words, ["scenarios/x.py::test"], tmp_path)
    assert told == [
        *("-q", "--lab-artifacts=kept", "-k", "token"),
        str(tmp_path / "scenarios/x.py::test"),
    ]


def test_a_choice_without_hosts_runs_here_and_with_hosts_there():
    assert Choice(("x",), jobs=3).spread(2) == ["-n", "2"]
    assert Choice(("x",), jobs=3).spread(1) == []
    assert Choice(("x",), jobs=3, hosts="one*2").spread(9) == ["--lab-hosts", "one*2"]
