"""A PCI function is read and written where sysfs has it."""

import pytest

from vfio_lab.client import sysfs
from vfio_lab.client.sysfs import PciFunction
from vfio_lab.errors import DeadlineExceeded
from vfio_lab.hw.pci import Bdf


@pytest.fixture
def pf(user, tmp_path, monkeypatch):
    monkeypatch.setattr(PciFunction, "path", str(tmp_path))
    monkeypatch.setattr(sysfs, "CHANGE_TIMEOUT_S", 0.01)
    return PciFunction(Bdf.parse("0000:01:00.0"), user)


def test_a_value_that_never_comes_is_named(pf, tmp_path):
    (tmp_path / "power_state").write_text("D0\n")
    pf.await_value("power_state", "D0")
    with pytest.raises(DeadlineExceeded, match=r"power_state of 0000:01:00.0 to be D3hot"):
        pf.await_value("power_state", "D3hot")
