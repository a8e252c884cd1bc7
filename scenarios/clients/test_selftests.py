"""Do the kernel selftests of vfio pass?"""

import pytest

from vfio_lab.workloads.selftests import (
    CDEV,
    COMPAT,
    GROUP,
    MODES,
    of_tokens,
    selftest_names,
)
from vfio_lab.workloads.tap import PASSED
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.clients import each_test

pytestmark = [pytest.mark.image("selftests"), pytest.mark.topology("igb-large")]
DEVICE = [
    *selftest_names(
        "vfio_pci_device_test", [""], ["config_space_read_write", "validate_bars", "reset"]
    ),
    *selftest_names("vfio_pci_irq_test", ["msi", "msix"], ["enable_trigger_disable"]),
]
BIND = ["bind", "get_info_without_bind_fails", "bind_bad_iommufd_fails", "repeated_bind_fails"]
ATTACH = ["attach_detatch_pt", "attach_invalid_pt_fails"]
MEMORY = [f"{mode}_{kind}" for mode in MODES for kind in ("anonymous", "anonymous_hugetlb_2mb")]
MAPPINGS = [
    *selftest_names("vfio_dma_mapping_test", MEMORY, ["dma_map_unmap"]),
    *selftest_names("vfio_dma_map_limit_test", MODES, ["unmap_range", "unmap_all"]),
    *selftest_names("vfio_dma_map_limit_test", (*COMPAT, *CDEV), ["overflow"]),
]
DRIVER = [
    *("init_remove", "memcpy_success", "memcpy_from_unmapped_iova", "memcpy_to_unmapped_iova"),
    *("send_msi", "mix_and_match", "memcpy_storm"),
]
INIT = "vfio_pci_device_init_perf_test"
BARS = selftest_names(
    "vfio_dma_mapping_mmio_test", MODES, ["map_full_bar", "map_partial_bar", "map_bar_misaligned"]
)


@claim("G15")
@each_test("vfio_pci_sriov_uapi_test", of_tokens(GROUP))
def test_the_sriov_selftest_passes_on_the_group_path(tap_results, name):
    """vfio_pci_sriov_uapi_test passes with a type1 container."""
    assert tap_results[name] == PASSED


@claim("G16")
@each_test("vfio_pci_sriov_uapi_test", of_tokens(COMPAT))
def test_the_sriov_selftest_passes_with_an_iommufd_as_container(tap_results, name):
    """vfio_pci_sriov_uapi_test passes with an iommufd as container."""
    assert tap_results[name] == PASSED


@claim("G17")
@each_test("vfio_pci_sriov_uapi_test", of_tokens(CDEV))
def test_the_sriov_selftest_passes_on_the_cdev_path(tap_results, name):
    """vfio_pci_sriov_uapi_test passes on the cdev path."""
    assert tap_results[name] == PASSED


@claim("G18")
@each_test("vfio_pci_device_test", DEVICE)
def test_the_device_selftest_passes(tap_results, name):
    """vfio_pci_device_test passes."""
    assert tap_results[name] == PASSED


@claim("G19")
@each_test("vfio_iommufd_setup_test", selftest_names("vfio_cdev", [""], [*BIND, *ATTACH]))
def test_the_iommufd_setup_selftest_passes(tap_results, name):
    """vfio_iommufd_setup_test passes."""
    assert tap_results[name] == PASSED


@claim("G20")
@each_test("vfio_dma_mapping_mmio_test", BARS)
def test_the_mmio_mapping_selftest_passes(tap_results, name):
    """vfio_dma_mapping_mmio_test passes."""
    assert tap_results[name] == PASSED


@claim("G21")
@each_test("vfio_dma_mapping_test", MAPPINGS)
def test_the_mapping_selftest_passes(tap_results, name):
    """vfio_dma_mapping_test passes."""
    assert tap_results[name] == PASSED


@claim("G22")
@each_test("vfio_pci_driver_test", selftest_names("vfio_pci_driver_test", MODES, DRIVER))
def test_the_driver_selftest_passes(tap_results, name):
    """vfio_pci_driver_test passes."""
    assert tap_results[name] == PASSED


@claim("G23")
@each_test("vfio_dma_mapping_test", selftest_names("vfio_dma_map_limit_test", GROUP, ["overflow"]))
def test_the_mapping_overflow_selftest_passes_with_type1(tap_results, name):
    """The overflow test of vfio_dma_mapping_test passes with type1."""
    assert tap_results[name] == PASSED


@claim("G25")
@pytest.mark.topology("igb-pair")
@each_test(INIT, selftest_names(INIT, MODES, ["init"]))
def test_the_initialization_selftest_passes_on_two_devices(tap_results, name):
    """vfio_pci_device_init_perf_test passes: two threads open a device each at the same time."""
    assert tap_results[name] == PASSED
