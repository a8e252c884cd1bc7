"""Can files of sysfs and debugfs be read while drivers come and go?

Report: dc7fe87de492 (debugfs of a device outlived its memory). Kernel: drivers/vfio/debugfs.c;
drivers/vfio/pci/vfio_pci_core.c, vfio_pci_core_unregister_device(); fs/debugfs/file.c.
"""

from errno import EIO, ENODEV

import pytest

from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.readers import files_below
from vfio_lab_pytest.verdicts import outcome

ROUNDS = 10
DEBUGFS = "/sys/kernel/debug/vfio"


@claim("R01")
@pytest.mark.parametrize(
    "reader", ["/sys/bus/pci/devices", "/sys/kernel/iommu_groups"], indirect=True
)
def test_sysfs_is_read_while_a_driver_comes_and_goes(reader, pf):
    """Files of sysfs are read over and over while vfio-pci is bound and unbound; all goes on."""
    _ = [(pf.unbind(), pf.bind_with_sriov()) for _ in range(ROUNDS)]
    assert pf.driver == "vfio-pci"
    assert not reader.returned


@claim("R02")
@pytest.mark.parametrize("reader", ["/sys/bus/pci/devices"], indirect=True)
def test_sysfs_is_read_while_vfs_come_and_go(reader, pf):
    """Files of sysfs are read over and over while VFs are enabled and disabled; all goes on."""
    made = [(len(pf.enable_vfs(2)), len(pf.enable_vfs(0))) for _ in range(3)]
    assert made == [(2, 0)] * 3
    assert not reader.returned


@claim("R03")
@pytest.mark.parametrize("reader", [DEBUGFS], indirect=True)
def test_debugfs_is_read_while_a_driver_comes_and_goes(reader, pf):
    """Files of vfio's debugfs are read over and over while vfio-pci is bound and unbound."""
    _ = [(pf.unbind(), pf.bind_with_sriov()) for _ in range(ROUNDS)]
    assert pf.driver == "vfio-pci"
    assert not reader.returned


@claim("R04")
def test_an_open_file_of_debugfs_outlives_its_device(pf, root, observer):
    """An open file of debugfs can be read until its device is unbound, and not afterwards."""
    paths = files_below(root, DEBUGFS)
    assert paths
    fd = observer.open_path(paths[0], 0)
    assert observer.read(fd, 4096)
    pf.unbind()
    assert outcome(lambda: observer.pread(fd, 4096, 0)) in (EIO, ENODEV)
    assert pf.bind_with_sriov().driver == "vfio-pci"


@claim("R05")
@pytest.mark.parametrize("reader", ["/sys/bus/pci/devices"], indirect=True)
def test_a_function_is_removed_while_its_files_are_read(guest, reader, pf):
    """Files of a function are read over and over while it is removed and found again."""
    _ = [
        (pf.write("remove", 1), guest.root.write_file("/sys/bus/pci/rescan", "1"))
        for _ in range(ROUNDS // 3)
    ]
    assert pf.present
    assert not reader.returned
