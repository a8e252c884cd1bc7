"""Descriptors that one process passes to another through a socket (SCM_RIGHTS).

Source: net/core/scm.c, scm_fp_copy() and scm_detach_fds(); include/linux/socket.h.
"""

from __future__ import annotations

import struct

from vfio_lab.client.call import Buffer
from vfio_lab.client.user import User
from vfio_lab.uapi.syscalls import AF_UNIX, O_CLOEXEC, SCM_RIGHTS, SOCK_DGRAM, SOL_SOCKET

MSGHDR = struct.Struct("<QI4xQQQQi4x")  # name and size, vector and count, control and size, flags
NAME_OFFSET, VECTOR_OFFSET, CONTROL_OFFSET = 0, 16, 32
IOVEC = struct.Struct("<QQ")
CMSG = struct.Struct("<Qiii4x")  # its length without the padding, level, type, the descriptor
CMSG_BYTES = 20
BYTE = b"\0"  # a message without a byte carries no descriptor


def pass_descriptor(sender: User, fd: int, receiver: User) -> int:
    """Pass a descriptor to another process; return the number that it has there.

    Both descriptors refer to the same open file description.

    Args:
        sender: the user that has the descriptor.
        fd: the descriptor.
        receiver: the user that gets it.

    Raises:
        Refusal: the kernel refuses one of the steps.
    """
    # An abstract name: no file is left behind.
    address = struct.pack("<H", AF_UNIX) + f"\0vfio-lab {sender.pid} {receiver.pid}".encode()
    inbox, outbox = _socket(receiver), _socket(sender)
    receiver.syscall("bind", inbox, Buffer(address), len(address))
    carried = Buffer(CMSG.pack(CMSG_BYTES, SOL_SOCKET, SCM_RIGHTS, fd))
    sender.syscall("sendmsg", outbox, _message(carried, address), 0, about=f"descriptor {fd}")
    room = Buffer(bytes(CMSG.size), out=True)
    reply = receiver.syscall("recvmsg", inbox, _message(room), O_CLOEXEC, about="a descriptor")
    sender.close(outbox)
    receiver.close(inbox)
    *_, received = CMSG.unpack(reply.out[-1])
    return int(received)


def _socket(user: User) -> int:
    return user.syscall("socket", AF_UNIX, SOCK_DGRAM | O_CLOEXEC, 0).value


def _message(control: Buffer, address: bytes = b"") -> Buffer:
    """Return a message header for one byte and a control message."""
    vector = Buffer(IOVEC.pack(0, len(BYTE)), pointers=((0, Buffer(BYTE)),))
    name = ((NAME_OFFSET, Buffer(address)),) if address else ()
    header = MSGHDR.pack(0, len(address), 0, 1, 0, len(control.data), 0)
    return Buffer(header, pointers=(*name, (VECTOR_OFFSET, vector), (CONTROL_OFFSET, control)))
