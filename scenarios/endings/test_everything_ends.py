"""Does the use of a device end in every way, whatever its user holds?

The two sides of the matrix are HOLDINGS and ENDINGS of vfio_lab_pytest.endings; each has a name
and a function. Kernel: drivers/vfio/vfio_main.c, vfio_df_device_last_close() and
vfio_unregister_group_dev(); drivers/vfio/pci/vfio_pci_core.c, vfio_pci_core_close_device() and
vfio_pci_core_disable(); drivers/vfio/pci/vfio_pci_dmabuf.c, vfio_pci_dma_buf_cleanup().
"""

import pytest

from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.endings import ENDINGS, HOLDINGS, bring_back, claimed_bars, unplug

pytestmark = pytest.mark.topology("igb-pair")
INTEL = b"\x86\x80"


@pytest.fixture
def next_user(guest):
    """A user that opens the device afterwards."""
    return guest.user("next_user")


EVERY_HOLDING = [
    pytest.param(name, marks=pytest.mark.needs(*holding.needs))
    for name, holding in HOLDINGS.items()
]


@pytest.mark.parametrize("use", EVERY_HOLDING, indirect=True)
@pytest.mark.parametrize(
    "ending",
    [
        pytest.param("a close", marks=claim("I01")),
        pytest.param("a kill", marks=claim("I02")),
        pytest.param("an unbinding", marks=claim("I03")),
        pytest.param("a removal", marks=claim("I04")),
        pytest.param("a close without decode", marks=claim("I06")),
        pytest.param("a close in D3hot", marks=claim("I07")),
        pytest.param("a close in low power", marks=claim("I08")),
        pytest.param("a close during a reset", marks=claim("I09")),
    ],
)
def test_a_device_is_free_after_its_use(use, ending, next_user):
    """A device is free for the next user, and for no driver, however its use ended."""
    ENDINGS[ending](use)
    device = next_user.open(bring_back(use))
    assert device.read_config(0, 2) == INTEL
    device.close()
    use.function.unbind()
    assert use.function.driver is None
    assert claimed_bars(use.function) == []


@claim("I05")
@pytest.mark.parametrize("use", EVERY_HOLDING, indirect=True)
@pytest.mark.pristine("it unplugs a device for good")
def test_a_device_without_power_is_gone_when_its_user_lets_go(use):
    """A device whose slot loses its power is gone once its user has let go, whatever they held."""
    assert use.function.present
    unplug(use)
    assert not use.function.present
