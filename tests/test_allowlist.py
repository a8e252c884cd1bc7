"""What scenarios may do to a machine that lends one device."""

import pytest

from vfio_lab.arch import X86_64
from vfio_lab.machine.allowlist import Allowlist, NotPermittedOnHost, RestrictedChannel
from vfio_lab.uapi.syscalls import O_RDONLY, O_RDWR

PF, VF, OTHER = "0000:01:00.0", "0000:01:10.0", "0000:02:00.0"
DEVICES, DRIVERS = "/sys/bus/pci/devices", "/sys/bus/pci/drivers"
ALLOWLIST = Allowlist(frozenset({PF, VF}))


def write(path, text):
    return "write_file", {"path": path, "data": f"{text}\n".encode().hex()}


def run(*argv):
    return "run", {"argv": argv}


def opening(path, flags):
    data = {"data": path.encode().hex() + "00"}
    return "syscall", {"number": X86_64.syscalls["openat"], "args": [0, data, flags, 0]}


def call(name):
    return "syscall", {"number": X86_64.syscalls[name], "args": []}


@pytest.mark.parametrize(
    "request_",
    [
        write(f"{DEVICES}/{PF}/sriov_numvfs", 2),
        write(f"{DEVICES}/{PF}/power/control", "auto"),
        write(f"{DEVICES}/{VF}/driver_override", "vfio-pci"),
        write(f"{DRIVERS}/vfio-pci/bind", PF),
        write(f"{DRIVERS}/igb/unbind", PF),
        write("/sys/bus/pci/drivers_probe", VF),
        write("/sys/module/vfio_pci/parameters/enable_sriov", "Y"),
        run("modprobe", "vfio-pci"),
        opening("/dev/vfio/12", O_RDWR),
        opening("/dev/vfio/devices/vfio0", O_RDWR),
        opening("/dev/iommu", O_RDWR),
        opening(f"{DEVICES}/{PF}/config", O_RDWR),
        opening("/proc/version", O_RDONLY),
        call("ioctl"),
        ("read_file", {"path": f"{DEVICES}/{OTHER}/vendor", "size": 10}),
    ],
)
def test_the_device_is_free(request_):
    op, args = request_
    assert ALLOWLIST.objection(op, args) is None


@pytest.mark.parametrize(
    "request_",
    [
        write(f"{DEVICES}/{OTHER}/sriov_numvfs", 2),
        write(f"{DEVICES}/{PF}/remove", 1),
        write(f"{DEVICES}/{PF}/rescan", 1),
        write(f"{DEVICES}/{PF}/../{OTHER}/reset", 1),
        write(f"{DEVICES}/{PF}/driver/unbind", OTHER),
        write(f"{DEVICES}/{PF}/driver/unbind", PF),
        write(f"{DEVICES}/{PF}/iommu_group/type", "identity"),
        write(f"{DRIVERS}/vfio-pci/bind", OTHER),
        write(f"{DRIVERS}/igb/unbind", OTHER),
        write(f"{DRIVERS}/igb/bind", VF),
        write(f"{DRIVERS}/vfio-pci/new_id", "8086 10c9"),
        write("/sys/bus/pci/drivers_probe", OTHER),
        write("/sys/bus/pci/rescan", 1),
        write("/sys/bus/pci/slots/1/power", 0),
        write("/sys/module/vfio/parameters/enable_unsafe_noiommu_mode", "Y"),
        write("/proc/sysrq-trigger", "b"),
        run("modprobe", "igb"),
        run("modprobe", "--remove", "vfio-pci"),
        run("rmmod", "vfio_pci"),
        run("sh", "-c", "true"),
        opening("/dev/sda", O_RDWR),
        opening(f"{DEVICES}/{OTHER}/config", O_RDWR),
        opening("/sys/bus/pci/devices/config", O_RDWR),
        call("chown"),
        call("execve"),
        call("sethostname"),
        call("reboot"),
        call("kexec_file_load"),
    ],
)
def test_every_other_request_is_refused(request_):
    op, args = request_
    assert ALLOWLIST.objection(op, args)


def test_a_restricted_channel_sends_no_request_that_is_refused():
    op, args = write("/proc/sysrq-trigger", "b")
    channel = RestrictedChannel(None, "real", allowlist=ALLOWLIST)
    with pytest.raises(NotPermittedOnHost, match="sysrq-trigger"):
        channel.start(7, op, "crash", **args)
