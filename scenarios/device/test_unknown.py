"""How does vfio answer unknown ioctls, and what do fdinfo and debugfs show?

Kernel: drivers/vfio/vfio_main.c, vfio_device_fops_unl_ioctl(), vfio_device_show_fdinfo();
group.c, vfio_group_fops_unl_ioctl(); container.c, vfio_fops_unl_ioctl(); debugfs.c.
"""

from errno import EINVAL, ENOTTY

from vfio_lab.uapi.vfio import io
from vfio_lab.vfio import Container
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.verdicts import refused

UNKNOWN = io(155)


@claim("F57")
def test_an_unknown_ioctl_is_refused(user, device):
    """An unknown ioctl fails with ENOTTY, and on an empty container with EINVAL."""
    with refused(ENOTTY):
        device.ioctl(UNKNOWN)
    with refused(ENOTTY):
        device.group.ioctl(UNKNOWN)
    with refused(ENOTTY):
        device.container.ioctl(UNKNOWN)
    with refused(EINVAL):
        Container(user).ioctl(UNKNOWN)
    assert device.get_info().num_regions == 9


@claim("F58")
def test_a_descriptor_names_its_device(user, function, device):
    """The fdinfo of a device descriptor names the device, and that of its group does not."""
    *_, path = user.read_file(f"/proc/self/fdinfo/{device.fd}").splitlines()
    assert path.startswith("vfio-device-syspath: /sys/devices/")
    assert path.endswith(f"/pci0000:00/0000:00:01.0/{function}")
    assert "vfio-device" not in user.read_file(f"/proc/self/fdinfo/{device.group.fd}")


@claim("F58")
def test_debugfs_has_a_folder_for_each_device(guest, function):
    """Each device on vfio-pci has a debugfs directory with its own parameters."""
    folder = f"/sys/kernel/debug/vfio/{function}"
    assert guest.root.read_file(f"{folder}/pci/nointxmask") == "N"
    assert guest.root.read_file(f"{folder}/pci/disable_idle_d3") == "N"
    guest.root.write_file("/sys/module/vfio_pci/parameters/nointxmask", "Y")
    assert guest.root.read_file(f"{folder}/pci/nointxmask") == "N"
    function.bind("vfio-pci")
    assert guest.root.read_file(f"{folder}/pci/nointxmask") == "Y"
    function.unbind()
    assert not guest.root.exists(folder)
