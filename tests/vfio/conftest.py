"""A user that answers from a script: what the client packs, without a kernel."""

import pytest

from vfio_lab.client.call import Buffer, Refusal, Reply
from vfio_lab.uapi import iommufd, vfio, vfio_type1
from vfio_lab.vfio import Cdev
from vfio_lab.vfio.device import Device

VF = "0000:01:10.0"


class ScriptedUser:
    """Stands where vfio_lab.client.user.User does: records calls, answers from a script."""

    name = "user"

    def __init__(self):
        self.calls = []
        self.next_fd = 3
        self.open_fds = {}
        self.answers = {}
        self.refuse = {}
        self.links = {}
        self.folders = {}
        self.paths = set()

    def _check(self, call):
        if call in self.refuse:
            raise Refusal(self.refuse[call], self.name, call, "")

    def _new_fd(self, what):
        fd, self.next_fd = self.next_fd, self.next_fd + 1
        self.open_fds[fd] = what
        return fd

    def open_path(self, path):
        self.calls.append(("open", path))
        self._check(path)
        return self._new_fd(path)

    def close(self, fd):
        self.calls.append(("close", self.open_fds.pop(fd)))

    def dup(self, fd):
        return self._new_fd(f"dup of {self.open_fds[fd]}")

    def ioctl(self, fd, request, arg=0, *, name, about=""):
        """Make an ioctl; whatever it is, its name, number and words belong together."""
        assert fd in self.open_fds
        assert ioctl_number(name) == request
        assert about.startswith(str(fd))
        self.calls.append((name, arg))
        self._check(name)
        if name == "VFIO_GROUP_GET_DEVICE_FD":
            return Reply(self._new_fd("device"))
        answer = self.answers.get(name, 0)
        if isinstance(answer, int):
            return Reply(answer, tuple(_out(arg)))
        return Reply(0, answer(arg))

    def start(self, call, *args, label, about):
        assert call == "ioctl"
        return self.ioctl(*args, name=label, about=about)

    def pread(self, fd, size, offset):
        assert fd in self.open_fds
        self.calls.append(("pread", offset, size))
        return bytes(size)

    def readlink(self, path):
        return self.links[path]

    def listdir(self, path):
        return self.folders[path]

    def exists(self, path):
        return path in self.paths

    def closed(self):
        """Return what was closed, in order."""
        return [what for call, what, *_ in self.calls if call == "close"]

    def argument(self, name):
        """Return the argument of the last call by that name."""
        return [call[1] for call in self.calls if call[0] == name][-1]


def ioctl_number(name):
    modules = (vfio, vfio_type1, iommufd)
    return next(getattr(one, name) for one in modules if hasattr(one, name))


def _out(arg):
    if isinstance(arg, Buffer):
        if arg.out:
            yield arg.data
        for _, inner in arg.pointers:
            yield from _out(inner)


@pytest.fixture
def user():
    return ScriptedUser()


@pytest.fixture
def device(user):
    fd = user._new_fd("device")
    return Device(user, fd, VF)


@pytest.fixture
def cdev(user):
    return Cdev(user, "vfio3", VF)
