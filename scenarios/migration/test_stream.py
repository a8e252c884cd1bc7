"""What is in the stream of a device's state, and what may be written to it?

include/uapi/linux/vfio.h, VFIO_MIG_GET_PRECOPY_INFO and VFIO_DEVICE_FEATURE_MIG_DATA_SIZE.
Kernel: include/linux/vfio.h, vfio_check_precopy_ioctl(); samples/vfio-mdev/mtty.c,
mtty_save_read(), mtty_resume_write() and mtty_load_state().
"""

from errno import EFAULT, EINVAL, ENODEV, ENOMEM

import pytest

from vfio_lab.drivers.mtty import SCRATCH, SerialPort
from vfio_lab.uapi.vfio_migration import (
    VFIO_DEVICE_STATE_PRE_COPY,
    VFIO_DEVICE_STATE_RESUMING,
    VFIO_DEVICE_STATE_RUNNING,
    VFIO_DEVICE_STATE_STOP,
    VFIO_DEVICE_STATE_STOP_COPY,
)
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.mediated import stream
from vfio_lab_pytest.verdicts import refused

pytestmark = pytest.mark.usefixtures("mocks")
MESSAGE = b"fifteen letters"
HEADER_BYTES = 24


@claim("T20")
def test_the_length_is_known_beforehand(migration):
    """The stream of STOP_COPY has the length that MIG_DATA_SIZE says, and then ends."""
    expected = migration.data_size()
    state = stream(migration, VFIO_DEVICE_STATE_STOP_COPY)
    assert len(state.read()) == expected
    assert state.read() == b""


@claim("T21")
def test_the_precopy_goes_on_as_the_final_copy(port, migration):
    """STOP_COPY after PRE_COPY begins no second stream: the rest comes through the first one."""
    state = stream(migration, VFIO_DEVICE_STATE_PRE_COPY)
    first = state.read()
    port.send(MESSAGE)
    assert migration.enter(VFIO_DEVICE_STATE_STOP_COPY) is None
    assert MESSAGE not in first
    assert MESSAGE in state.read()


@claim("T22")
def test_the_precopy_says_what_is_left(migration):
    """VFIO_MIG_GET_PRECOPY_INFO says how much of the first data was not read yet."""
    state = stream(migration, VFIO_DEVICE_STATE_PRE_COPY)
    before = state.precopy_info()
    assert (before.initial_bytes, before.dirty_bytes) == (HEADER_BYTES, 0)
    state.read(10)
    assert state.precopy_info().initial_bytes == HEADER_BYTES - 10
    with refused(EINVAL):
        state.precopy_info(argsz=8)


@claim("T23")
def test_after_the_precopy_nothing_is_estimated(migration):
    """VFIO_MIG_GET_PRECOPY_INFO fails with EINVAL once the device is in STOP_COPY."""
    state = stream(migration, VFIO_DEVICE_STATE_PRE_COPY)
    assert state.precopy_info().initial_bytes == HEADER_BYTES
    migration.enter(VFIO_DEVICE_STATE_STOP_COPY)
    with refused(EINVAL):
        state.precopy_info()


@claim("T24")
def test_a_device_does_not_run_on_a_part_of_its_state(port, migration):
    """A device stays in RESUMING until all of a state was written: EINVAL before."""
    port.write(SCRATCH, 0x5A)
    state = stream(migration, VFIO_DEVICE_STATE_STOP_COPY).read()
    resumed = stream(migration, VFIO_DEVICE_STATE_RESUMING)
    resumed.write(state[:-1])
    with refused(EINVAL):
        migration.enter(VFIO_DEVICE_STATE_RUNNING)
    assert migration.state() == VFIO_DEVICE_STATE_RESUMING
    resumed.write(state[-1:])
    migration.enter(VFIO_DEVICE_STATE_RUNNING)
    assert port.read(SCRATCH) == 0x5A


@claim("T25")
def test_a_foreign_state_is_refused(migration):
    """A driver refuses a state that is not of its kind, and data beyond the state's end."""
    state = stream(migration, VFIO_DEVICE_STATE_STOP_COPY).read()
    with refused(EFAULT):
        stream(migration, VFIO_DEVICE_STATE_RESUMING).write(bytes(len(state)))
    migration.device.reset()
    with refused(ENOMEM):
        stream(migration, VFIO_DEVICE_STATE_RESUMING).write(state + b"more")
    migration.device.reset()
    assert stream(migration, VFIO_DEVICE_STATE_RESUMING).write(state) == len(state)


@claim("T26")
def test_a_stream_ends_with_its_state(migration):
    """A stream whose state was left is dead: ENODEV. A new one has all of the state."""
    old = stream(migration, VFIO_DEVICE_STATE_STOP_COPY)
    migration.enter(VFIO_DEVICE_STATE_STOP)
    with refused(ENODEV):
        old.read()
    new = stream(migration, VFIO_DEVICE_STATE_STOP_COPY)
    assert len(new.read()) == migration.data_size()


@claim("T27")
def test_a_stream_dies_with_the_use_of_its_device(user, serial, serial_device, migration):
    """A stream outlives its device's descriptor, and answers ENODEV."""
    state = stream(migration, VFIO_DEVICE_STATE_STOP_COPY)
    assert state.read(1)
    serial_device.close()
    with refused(ENODEV):
        state.read()
    assert user.open(serial)


@claim("T28")
def test_a_device_goes_on_in_another_guest(port, migration, arrival):
    """What a device had received is read in another guest, to which its state was sent."""
    port.send(MESSAGE)
    state = stream(migration, VFIO_DEVICE_STATE_STOP_COPY).read()
    stream(arrival, VFIO_DEVICE_STATE_RESUMING).write(state)
    assert stream(arrival, VFIO_DEVICE_STATE_STOP_COPY).read() == state
    arrival.enter(VFIO_DEVICE_STATE_RUNNING)
    assert SerialPort(arrival.device).receive(len(MESSAGE)) == MESSAGE


@claim("T28")
def test_a_state_is_sent_in_pieces(port, migration, arrival):
    """A state that was sent byte by byte is the same state."""
    port.send(MESSAGE)
    source = stream(migration, VFIO_DEVICE_STATE_STOP_COPY)
    pieces = [source.read(1) for _ in range(migration.data_size())]
    target = stream(arrival, VFIO_DEVICE_STATE_RESUMING)
    assert [target.write(piece) for piece in pieces] == [1] * len(pieces)
    assert stream(arrival, VFIO_DEVICE_STATE_STOP_COPY).read() == b"".join(pieces)
