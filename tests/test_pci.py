import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfio_lab.errors import UsageError
from vfio_lab.hw.pci import (
    Bdf,
    driver_file,
    vf_bdf,
)

PF = Bdf(0, 1, 0)
ADDRESSES = st.builds(
    Bdf,
    st.integers(0, 0xFFFF),
    st.integers(0, 0xFF),
    st.integers(0, 0x1F),
    st.integers(0, 7),
)


@given(ADDRESSES)
def test_an_address_survives_being_written_and_read(bdf: Bdf) -> None:
    assert Bdf.parse(str(bdf)) == bdf
    assert Bdf.from_routing_id(bdf.routing_id, bdf.domain) == bdf


def test_the_domain_may_be_left_out() -> None:
    assert Bdf.parse("01:10.0") == Bdf.parse("0000:01:10.0") == Bdf(0, 1, 0x10, 0)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "01:10",
        "1:0.0",
        "0000:01:10.0 ",
        " 0000:01:10.0",
        "0000:01:10.0\n",
        "0000:01:10.00",
        "000:01:10.0",
        "0000-01-10.0",
        "0000:0g:10.0",
        "0000:01:20.0",
        "0000:01:10.8",
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        Bdf.parse(text)


@pytest.mark.parametrize(
    "parts", [(0, 0x100, 0, 0), (0, 0, 0x20, 0), (0, 0, 0, 8), (0x10000, 0, 0, 0), (0, -1, 0, 0)]
)
def test_no_function_has_numbers_out_of_range(parts: tuple[int, int, int, int]) -> None:
    with pytest.raises(UsageError, match="no PCI function"):
        Bdf(*parts)


def test_addresses_are_ordered_as_lspci_lists_them() -> None:
    texts = ["0000:00:1f.0", "0000:01:00.0", "0000:01:00.1", "0000:02:00.0", "0001:00:00.0"]
    assert [str(bdf) for bdf in sorted(map(Bdf.parse, reversed(texts)))] == texts


def test_hot_reset_info_packs_device_and_function_in_a_byte() -> None:
    assert Bdf.parse("01:10.2").devfn == 0x82


def test_names_in_sysfs() -> None:
    assert PF.attribute("sriov_numvfs") == "/sys/bus/pci/devices/0000:01:00.0/sriov_numvfs"
    assert PF.virtfn(3) == "/sys/bus/pci/devices/0000:01:00.0/virtfn3"
    assert driver_file("vfio-pci", "bind") == "/sys/bus/pci/drivers/vfio-pci/bind"


def test_vfs_of_an_82576_are_on_its_bus_two_ids_apart() -> None:
    vfs = [vf_bdf(PF, index, offset=0x80, stride=2).short for index in range(8)]
    assert vfs == [
        "01:10.0", "01:10.2", "01:10.4", "01:10.6", "01:11.0", "01:11.2", "01:11.4", "01:11.6",
    ]  # fmt: skip


def test_vfs_may_reach_the_next_bus() -> None:
    assert vf_bdf(Bdf(0, 1, 0x1F, 7), 0, offset=1, stride=1) == Bdf(0, 2, 0)


@pytest.mark.parametrize(
    ("pf", "index", "offset", "stride"),
    [
        (PF, -1, 0x80, 2),
        (PF, 0, 0, 2),
        (PF, 1, 0x80, 0),
        (Bdf(0, 0xFF, 0x1F, 7), 0, 1, 1),
    ],
    ids=["negative index", "no offset", "no stride", "past the last bus"],
)
def test_vfs_cannot_be_anywhere(pf: Bdf, index: int, offset: int, stride: int) -> None:
    with pytest.raises(UsageError):
        vf_bdf(pf, index, offset=offset, stride=stride)


def test_a_single_vf_needs_no_stride() -> None:
    assert vf_bdf(PF, 0, offset=1, stride=0) == Bdf(0, 1, 0, 1)
