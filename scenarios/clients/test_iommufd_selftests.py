"""Do the kernel selftests of iommufd pass, with its mock IOMMU and mock devices?

The programs are those of the default kernel. They need CONFIG_IOMMUFD_TEST, which 7.3:mocks has.
"""

import pytest

from vfio_lab.workloads.selftests import selftest_names
from vfio_lab.workloads.tap import PASSED
from vfio_lab_pytest.claims import claim

pytestmark = [
    pytest.mark.image("selftests"),
    pytest.mark.topology("igb-large"),
    pytest.mark.usefixtures("mock_iommu"),
]
IOMMUFD = pytest.mark.parametrize("program", ["iommufd"])
FAIL_NTH = pytest.mark.parametrize("program", ["iommufd_fail_nth"])
CALLS = ["simple_close", "cmd_fail", "cmd_length", "cmd_ex_fail", "global_options"]
COMPAT_CALLS = ["simple_ioctls", "unmap_cmd", "map_cmd", "info_cmd", "set_iommu_cmd", "vfio_ioas"]
SPACES = [
    *("ioas_auto_destroy", "ioas_destroy", "alloc_hwpt_nested", "hwpt_attach", "ioas_area_destroy"),
    *("ioas_area_auto_destroy", "get_hw_info", "area", "unmap_fully_contained_areas"),
    *("area_auto_iova", "reserved_overflow", "area_allowed", "copy_area", "iova_ranges"),
    *("access_domain_destory", "access_pin", "access_pin_unmap", "access_rw"),
    *("access_rw_unaligned", "fork_gone", "fork_present", "ioas_option_huge_pages"),
    *("ioas_iova_alloc", "ioas_align_change", "copy_sweep"),  # dmabuf_*: see G39
]
DOMAINS = ["no_domain", "mock_domain", "two_mock_domain", "mock_domain_limit"]
MAPPERS = [
    *("one_domain", "two_domains", "one_domain_hugepage", "two_domains_hugepage"),
    *("one_domain_file", "one_domain_file_hugepage"),
]
MAPPINGS = ["basic", "ro_unshare", "all_aligns", "all_aligns_copy", "user_copy", "replace"]
DIRTY_SIZES = [
    f"domain_dirty{size}"
    for size in ("8k", "16k", "64k", "128k", "320k", "64M", "64M_huge", "128M", "128M_huge")
]
ACCOUNTS = ["account_none", "account_user", "account_mm"]
DIRTY = ["enforce_dirty", "set_dirty_tracking", "pasid_set_dirty_tracking"]
BITMAPS = ["device_dirty_capability", "get_dirty_bitmap", "get_dirty_bitmap_no_clear"]
COMPAT = ["simple_close", "option_huge_pages", "get_info", "map", "huge_map"]
VIRTUAL = [
    *("viommu_auto_destroy", "viommu_negative_tests", "viommu_alloc_nested_iopf"),
    *("viommu_alloc_with_data", "vdevice_alloc", "vdevice_cache", "hw_queue"),
    "vdevice_tombstone",
]
FAILING = [
    *("basic", "map_domain", "map_file_domain", "map_two_domains", "access_rw", "access_pin"),
    *("access_pin_domain", "device"),
]


@claim("G30")
@IOMMUFD
def test_the_selftests_of_calls_pass(tap_results):
    """The tests of calls without a device pass."""
    names = selftest_names("iommufd", [""], [*CALLS, *COMPAT_CALLS])
    assert {name: tap_results[name] for name in names} == dict.fromkeys(names, PASSED)


@claim("G31")
@IOMMUFD
def test_the_selftests_of_address_spaces_pass(tap_results):
    """The tests of address spaces pass, with no mock device, with one, two, and a limited one."""
    names = selftest_names("iommufd_ioas", DOMAINS, SPACES)
    assert {name: tap_results[name] for name in names} == dict.fromkeys(names, PASSED)


@claim("G32")
@IOMMUFD
def test_the_selftests_of_mappings_pass(tap_results):
    """The tests of mappings pass, in small and huge pages, of memory and of files."""
    names = selftest_names("iommufd_mock_domain", MAPPERS, [*MAPPINGS, "alloc_hwpt"])
    assert {name: tap_results[name] for name in names} == dict.fromkeys(names, PASSED)


@claim("G33")
@IOMMUFD
def test_the_selftests_of_charges_pass(tap_results):
    """The tests of charges that move to another process pass."""
    names = selftest_names("change_process", ACCOUNTS, ["basic"])
    assert {name: tap_results[name] for name in names} == dict.fromkeys(names, PASSED)


@claim("G34")
@IOMMUFD
def test_the_selftests_of_dirty_tracking_pass(tap_results):
    """The tests of dirty tracking pass for bitmaps of a part of a page to many pages."""
    names = selftest_names("iommufd_dirty_tracking", DIRTY_SIZES, [*DIRTY, *BITMAPS])
    assert {name: tap_results[name] for name in names} == dict.fromkeys(names, PASSED)


@claim("G35")
@IOMMUFD
def test_the_selftests_of_containers_pass(tap_results):
    """The tests of an iommufd as container pass, with a mock device."""
    names = selftest_names("vfio_compat_mock_domain", ["Ver1v2", "Ver1v0"], COMPAT)
    assert {name: tap_results[name] for name in names} == dict.fromkeys(names, PASSED)


@claim("G36")
@IOMMUFD
def test_the_selftests_of_virtual_iommus_pass(tap_results):
    """The tests of virtual IOMMUs and devices, hardware queues and fault queues pass."""
    names = selftest_names("iommufd_viommu", ["mock_viommu"], VIRTUAL)
    assert {name: tap_results[name] for name in names} == dict.fromkeys(names, PASSED)


@claim("G37")
@IOMMUFD
def test_the_selftests_of_pasids_pass(tap_results):
    """The tests of PASIDs pass, on a device with them and on one without."""
    names = selftest_names("iommufd_device_pasid", ["no_pasid", "has_pasid"], ["pasid_attach"])
    assert {name: tap_results[name] for name in names} == dict.fromkeys(names, PASSED)


@claim("G38")
@FAIL_NTH
def test_the_selftests_of_failing_allocations_pass(tap_results):
    """The tests in which each allocation fails in turn pass."""
    names = selftest_names("basic_fail_nth", [""], FAILING)
    assert {name: tap_results[name] for name in names} == dict.fromkeys(names, PASSED)
