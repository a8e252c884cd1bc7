"""Which states of migration does a device take, and from which other states?

include/uapi/linux/vfio.h, enum vfio_device_mig_state. Kernel: drivers/vfio/vfio_main.c,
vfio_mig_get_next_state() and vfio_ioctl_device_feature_mig_device_state(); the device is
samples/vfio-mdev/mtty.c.
"""

from errno import EINVAL, EMFILE, ENOTTY

import pytest

from vfio_lab.uapi import vfio
from vfio_lab.uapi import vfio_migration as states
from vfio_lab.uapi.vfio_migration import (
    VFIO_DEVICE_STATE_ERROR,
    VFIO_DEVICE_STATE_PRE_COPY,
    VFIO_DEVICE_STATE_PRE_COPY_P2P,
    VFIO_DEVICE_STATE_RESUMING,
    VFIO_DEVICE_STATE_RUNNING,
    VFIO_DEVICE_STATE_RUNNING_P2P,
    VFIO_DEVICE_STATE_STOP,
    VFIO_DEVICE_STATE_STOP_COPY,
)
from vfio_lab.vfio import Migration
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.exhaustion import no_descriptor_left
from vfio_lab_pytest.mediated import arc, entered_anew, state_after_reset, stream
from vfio_lab_pytest.verdicts import all_refused, refused

pytestmark = pytest.mark.usefixtures("mocks")
GET, PROBE, SET = (
    vfio.VFIO_DEVICE_FEATURE_GET,
    vfio.VFIO_DEVICE_FEATURE_PROBE,
    vfio.VFIO_DEVICE_FEATURE_SET,
)
STATE = vfio.VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE
PRE_COPIES = {VFIO_DEVICE_STATE_PRE_COPY, VFIO_DEVICE_STATE_PRE_COPY_P2P}
STREAMS = {VFIO_DEVICE_STATE_STOP_COPY, VFIO_DEVICE_STATE_RESUMING, *PRE_COPIES}
ALL = {VFIO_DEVICE_STATE_STOP, VFIO_DEVICE_STATE_RUNNING, VFIO_DEVICE_STATE_RUNNING_P2P, *STREAMS}
STARTS = sorted(ALL - {VFIO_DEVICE_STATE_RESUMING, VFIO_DEVICE_STATE_STOP_COPY})
DEBUGFS = "/sys/kernel/debug/vfio"
FEATURES = "stop-copy p2p pre-copy dirty-tracking"
NAMES = {value: name for name, value in vars(states).items() if name.startswith("VFIO_DEVICE_ST")}


def shown_after(root, migration, state, path):
    """Reset a device, enter a state, and return what a file of debugfs says then."""
    entered_anew(migration, state)
    return root.read_file(path).strip()


@claim("T01")
def test_a_device_says_which_states_it_has(migration, device):
    """A driver with migration says which optional states it has; one without has no feature."""
    assert migration.flags() == (
        states.VFIO_MIGRATION_STOP_COPY | states.VFIO_MIGRATION_P2P | states.VFIO_MIGRATION_PRE_COPY
    )
    with refused(ENOTTY):
        Migration(device).flags()


@claim("T02")
def test_an_opened_device_runs(migration):
    """A device that has just been opened is in the state RUNNING."""
    assert migration.state() == VFIO_DEVICE_STATE_RUNNING


@claim("T03")
@pytest.mark.parametrize("start", STARTS, ids=NAMES.get)
def test_every_state_is_reached(migration, start):
    """From every state but STOP_COPY and RESUMING, a device gets to every state at once."""
    assert {end: arc(migration, start, end) for end in ALL} == {end: (0, end) for end in ALL}


@claim("T04")
def test_no_precopy_follows_the_final_copy(migration):
    """A device in STOP_COPY does not go back to a precopy, and stays: EINVAL."""
    start = VFIO_DEVICE_STATE_STOP_COPY
    blocked = {end: arc(migration, start, end) for end in PRE_COPIES}
    assert blocked == dict.fromkeys(PRE_COPIES, (EINVAL, start))
    others = ALL - PRE_COPIES
    assert {end: arc(migration, start, end) for end in others} == {end: (0, end) for end in others}


@claim("T05")
def test_a_state_that_does_not_exist_is_refused(migration):
    """ERROR and unknown states cannot be asked for: EINVAL; the device stays in its state."""
    migration.enter(VFIO_DEVICE_STATE_STOP)
    all_refused(EINVAL, migration.enter, [VFIO_DEVICE_STATE_ERROR, 8, 0xFFFF_FFFF])
    assert migration.state() == VFIO_DEVICE_STATE_STOP
    migration.enter(VFIO_DEVICE_STATE_RUNNING)
    assert migration.state() == VFIO_DEVICE_STATE_RUNNING


@claim("T06")
def test_a_stream_begins_with_certain_states(migration):
    """Entering STOP_COPY, RESUMING or a precopy from RUNNING gives a file, other states none."""
    begun = {state: entered_anew(migration, state) for state in ALL}
    assert {state for state, file in begun.items() if file} == STREAMS


@claim("T07")
def test_a_reset_brings_a_device_back(migration):
    """VFIO_DEVICE_RESET brings a device from any state to RUNNING."""
    after = {state: state_after_reset(migration, state) for state in ALL}
    assert after == dict.fromkeys(ALL, VFIO_DEVICE_STATE_RUNNING)


@claim("T08")
def test_the_state_is_read_and_set(migration):
    """The state's feature can be read and set, one at a time, with room for the answer."""
    device, room = migration.device, bytes(8)
    device.probe_feature(STATE, GET | SET)
    with refused(EINVAL):
        device.feature(STATE, GET | SET, room)
    with refused(EINVAL):
        device.feature(STATE, GET, room[:4])
    with refused(EINVAL):
        device.probe_feature(vfio.VFIO_DEVICE_FEATURE_MIGRATION, SET)
    device.probe_feature(vfio.VFIO_DEVICE_FEATURE_MIGRATION, GET)


@claim("T09")
def test_without_a_descriptor_the_state_changes_all_the_same(user, migration):
    """A user without a free descriptor gets EMFILE and no stream, but STOP_COPY is entered."""
    with no_descriptor_left(user), refused(EMFILE):
        migration.enter(VFIO_DEVICE_STATE_STOP_COPY)
    assert migration.state() == VFIO_DEVICE_STATE_STOP_COPY
    migration.enter(VFIO_DEVICE_STATE_RUNNING)
    assert stream(migration, VFIO_DEVICE_STATE_STOP_COPY).read()


@claim("T10")
def test_the_flags_of_the_precopy_are_asked_for(migration):
    """The flags of a precopy are the user's own until the second feature is set."""
    feature = vfio.VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2
    state = stream(migration, VFIO_DEVICE_STATE_PRE_COPY)
    with refused(EINVAL):
        migration.device.feature(feature, GET)
    assert state.precopy_info(flags=6).flags == 6
    migration.device.feature(feature, SET)
    assert state.precopy_info(flags=6).flags == 0


@claim("T11")
def test_debugfs_shows_the_migration(root, serial, migration):
    """Debugfs names the state that a device is in, and what its driver can do."""
    folder = f"{DEBUGFS}/{serial}/migration"
    shown = {state: shown_after(root, migration, state, f"{folder}/state") for state in ALL}
    assert shown == {state: NAMES[state].removeprefix("VFIO_DEVICE_STATE_") for state in ALL}
    assert root.read_file(f"{folder}/features").split() == FEATURES.split()
