"""Flags of system calls, and capabilities; they are the same on every supported architecture.

Source: include/uapi/asm-generic/{fcntl,mman-common,resource}.h, include/uapi/linux/capability.h,
include/uapi/linux/memfd.h, include/linux/socket.h.
"""

from __future__ import annotations

AT_FDCWD = -100
O_RDONLY = 0o0
O_WRONLY = 0o1
O_RDWR = 0o2
O_CREAT = 0o100
O_NONBLOCK = 0o4000
O_CLOEXEC = 0o2000000
EFD_NONBLOCK = O_NONBLOCK
EFD_CLOEXEC = O_CLOEXEC
PROT_NONE = 0
PROT_READ = 1
PROT_WRITE = 2
MAP_SHARED = 0x01
MAP_PRIVATE = 0x02
MAP_FIXED = 0x10
MAP_ANONYMOUS = 0x20
POLLIN = 0x001
POLLHUP = 0x010
CAPABILITY_VERSION_3 = 0x20080522
CAP_IPC_LOCK = 14
CAP_SYS_RAWIO = 17
CAP_SYS_ADMIN = 21
CAP_SYS_RESOURCE = 24
AF_UNIX = 1
SOCK_DGRAM = 2
SOL_SOCKET = 1
SCM_RIGHTS = 1
MFD_CLOEXEC = 1
RLIMIT_NOFILE = 7
RLIMIT_MEMLOCK = 8
