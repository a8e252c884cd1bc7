"""Which source is the lab's business."""

import pytest

from vfio_lab_pytest.plugin import PARTS
from vfio_lab_pytest.recognition import has_table, source_uses_the_lab


@pytest.mark.parametrize(
    ("source", "uses"),
    [
        ("def test_it(pf):", True),
        ("    def test_it(self, other_vf):", True),
        ("def test_it(\n    guest: Guest,\n    pf_user: User,\n) -> None:", True),
        ("def vfs_of(vfs):", True),
        ("import vfio_lab", True),
        ("from vfio_lab_pytest.verdicts import refused", True),
        ("assert 'vfio_lab' not in sys.modules", False),
        ("def test_it(guest, root, device):", False),
        ("def test_it(pfx, vfat):", False),
        ("pf = vf_user(1)", False),
        ("def pf():\n    x = (vf)", False),
    ],
)
def test_an_import_or_an_argument_shows_that_the_lab_is_used(tmp_path, source, uses):
    path = tmp_path / "test_it.py"
    path.write_text(source)
    assert source_uses_the_lab(path) is uses


def test_a_file_that_cannot_be_read_does_not_use_the_lab(tmp_path):
    (tmp_path / "test_it.py").write_bytes(b"\xff\xfe def test(pf):")
    assert not source_uses_the_lab(tmp_path / "test_it.py")
    assert not source_uses_the_lab(tmp_path / "not_there.py")


@pytest.mark.parametrize(
    ("text", "has"), [("[tool.vfio-lab]\n", True), ("[tool.vfio-labour]\n", False), (None, False)]
)
def test_a_table_shows_that_a_project_uses_the_lab(tmp_path, text, has):
    if text is not None:
        (tmp_path / "pyproject.toml").write_text(text)
    assert has_table(tmp_path) is has


def test_every_part_is_there_once():
    assert len(set(PARTS)) == len(PARTS)
