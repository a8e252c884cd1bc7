"""Do the selftests pass that the kernel's own tree brings?"""

import pytest

from vfio_lab.workloads.tap import FAILED
from vfio_lab_pytest.claims import claim

pytestmark = pytest.mark.topology("igb-large")


@claim("G24")
def test_a_selftest_of_the_kernels_own_tree(own_selftest):
    """A program among the selftests of the tree that the kernel was built from passes."""
    assert own_selftest
    assert [name for name, result in own_selftest.items() if result == FAILED] == []
