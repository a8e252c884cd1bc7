"""Calls as a line for people and as a record for programs."""

import errno
import json
import os
import struct

import pytest

from vfio_lab.arch import X86_64
from vfio_lab.client.call import Buffer, Refusal
from vfio_lab.client.transcript import NEVER_RETURNED, Entry
from vfio_lab.evidence.calls import (
    PARAMETERS,
    arguments,
    call_record,
    call_records,
    result,
    transcript,
)
from vfio_lab.uapi import vfio
from vfio_lab.uapi.layout import offset_of

INFO = struct.pack("<6I", 24, 0, 0, 0, 0, 0)
ANSWERED_INFO = struct.pack("<6I", 24, 2, 9, 5, 0, 0)


def ioctl(call, *given, value=0, number=0, out=()):
    """Return an answered ioctl on descriptor 5."""
    entry = Entry(1.0, None, "user", call, "words", syscall="ioctl", given=(5, 0x3B6B, *given))
    entry.settle({"ended": 2.0, "value": value, "errno": number, "out": [one.hex() for one in out]})
    return entry


def test_a_struct_is_shown_by_its_fields_and_by_what_the_call_changed():
    entry = ioctl("VFIO_DEVICE_GET_INFO", Buffer(INFO, out=True), out=[ANSWERED_INFO])
    assert transcript([entry]) == (
        "00:00:01.000000 user         VFIO_DEVICE_GET_INFO(5, {argsz=24, ...}) = "
        "0 {flags=0x2, num_regions=9, num_irqs=5}\n"
    )


def test_what_a_refused_call_changed_is_shown_too():
    entry = ioctl(
        "VFIO_DEVICE_GET_INFO",
        Buffer(INFO, out=True),
        value=-1,
        number=errno.ENOSPC,
        out=[ANSWERED_INFO],
    )
    assert result(entry).startswith("ENOSPC {flags=0x2")


def test_an_argument_that_is_no_struct_is_told_in_the_callers_words():
    assert arguments(ioctl("VFIO_SET_IOMMU", 3)) == "words"
    assert arguments(ioctl("VFIO_GROUP_GET_DEVICE_FD", Buffer(b"0000:01:10.0\0"))) == "words"
    assert arguments(ioctl("0x3b99", Buffer(b"\1\2"))) == "words"


def test_lines_stay_readable():
    data = struct.pack("<5I", 20, vfio.VFIO_IRQ_SET_DATA_EVENTFD, 2, 0, 900) + bytes(3600)
    entry = ioctl("VFIO_DEVICE_SET_IRQS", Buffer(data))
    assert arguments(entry).endswith("data=[0, 0, 0, 0, 0, 0, ... 894 more]}")
    entry = ioctl("VFIO_DEVICE_GET_INFO", Buffer(INFO + b"\1" * 4000, out=True), out=[INFO])
    assert len(arguments(entry)) < 260
    assert len(result(entry)) < 260


def test_a_record_has_every_field_and_loses_no_byte():
    given = Buffer(INFO + b"\xab\0", out=True)
    entry = ioctl("VFIO_DEVICE_GET_INFO", given, out=[ANSWERED_INFO + b"\xab\0"])
    found = call_record(entry)
    assert found["arguments"] == {
        "fd": 5,
        "request": 0x3B6B,
        "arg": {
            "struct": "vfio_device_info",
            "fields": {
                "argsz": 24,
                "flags": 0,
                "num_regions": 0,
                "num_irqs": 0,
                "cap_offset": 0,
                "pad": 0,
            },
            "rest": {"size": 2, "bytes": "ab"},
        },
    }
    assert found["answer"]["arg"]["fields"]["num_irqs"] == 5
    assert (found["value"], found["errno"], found["result"]) == (0, None, "0")
    assert (found["began"], found["ended"]) == (1.0, 2.0)


def test_what_a_pointer_leads_to_is_in_the_record_before_and_after():
    bitmap = Buffer(bytes(8), out=True)
    fixed = struct.pack("<IIQQ", 48, 1, 0x1000, 0x1000) + struct.pack("<QQQ", 4096, 8, 0)
    argument = Buffer(fixed, out=True, pointers=((40, bitmap),))
    entry = ioctl("VFIO_IOMMU_UNMAP_DMA", argument, out=[fixed, b"\7" + bytes(7)])
    found = call_record(entry)
    assert found["arguments"]["arg"]["fields"]["data"]["data"] == {"to": {"size": 8, "bytes": ""}}
    assert found["answer"]["arg"]["fields"]["data"]["data"] == {"to": {"size": 8, "bytes": "07"}}
    assert result(entry) == "0 {data=&0700000000000000}"


def test_the_token_of_a_bind_is_shown_as_a_uuid():
    fixed = bytes(vfio.vfio_device_bind_iommufd(argsz=24, flags=1, iommufd=3))
    where = offset_of(vfio.vfio_device_bind_iommufd, "token_uuid_ptr")
    entry = ioctl(
        "VFIO_DEVICE_BIND_IOMMUFD", Buffer(fixed, pointers=((where, Buffer(bytes(range(16)))),))
    )
    assert 'token_uuid_ptr=&"00010203-0405-0607-0809-0a0b0c0d0e0f"' in arguments(entry)


def test_records_say_first_what_they_are():
    first, second = map(json.loads, call_records([ioctl("VFIO_DEVICE_RESET")], 7.5))
    assert first == {"schema": 1, "awake": 7.5}
    assert second["call"] == "VFIO_DEVICE_RESET"


def test_a_call_of_a_real_user_is_recorded_by_the_names_of_its_arguments(user, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"ab\0")
    fd = user.open_path(str(path), os.O_RDONLY)
    user.pread(fd, 8, 1)
    opened, read = map(call_record, user.transcript)
    assert (opened["call"], opened["syscall"]) == ("open", "openat")
    assert opened["arguments"]["pathname"] == str(path)
    assert read["arguments"] == {
        "fd": fd,
        "buf": {"size": 8, "bytes": ""},
        "count": 8,
        "offset": 1,
    }
    assert (read["value"], read["answer"]) == (2, {"buf": {"size": 8, "bytes": "62"}})
    assert read["pid"] == user.pid


def test_operations_of_the_agent_say_what_they_read(user, tmp_path):
    (tmp_path / "file").write_text("42\n")
    user.read_file(str(tmp_path / "file"))
    user.listdir(str(tmp_path))
    user.run("sh", "-c", "echo out; echo err >&2; exit 3")
    with pytest.raises(Refusal):
        user.read_file(str(tmp_path / "none"))
    read, listed, ran, refused = user.transcript
    assert result(read) == '"42\\n"'
    assert call_record(read)["answer"] == {"data": "42\n"}
    assert result(listed) == '["file"]'
    assert result(ran) == '3 "err\\n" "out\\n"'
    assert call_record(ran)["arguments"]["argv"][0] == "sh"
    assert result(refused) == "ENOENT"
    assert call_record(refused)["errno"] == "ENOENT"


def test_a_file_that_is_no_text_is_bytes(user, tmp_path):
    (tmp_path / "file").write_bytes(b"\xff\0")
    user.read_file(str(tmp_path / "file"))
    assert call_record(user.transcript[0])["answer"] == {"data": {"size": 2, "bytes": "ff"}}


def test_arguments_without_a_name_are_numbered(user):
    with pytest.raises(Refusal):
        user.syscall("dup", 999, 5)
    assert call_record(user.transcript[0])["arguments"] == {"oldfd": 999, "arg1": 5}


def test_a_path_of_any_bytes_can_be_recorded(user, tmp_path):
    with pytest.raises(Refusal):
        user.open_path(f"{tmp_path}/\udcff")
    json.dumps(call_record(user.transcript[0]))


def test_every_system_call_of_users_has_names_for_its_arguments():
    assert set(PARAMETERS) == set(X86_64.syscalls)


def test_an_allocation_that_the_lab_failed_is_named():
    entry = ioctl("VFIO_DEVICE_RESET", value=-1, number=errno.ENOMEM)
    entry.failed_allocation = 3
    assert result(entry) == "ENOMEM (the lab failed allocation 3 of this call)"
    assert call_record(entry)["failed_allocation"] == 3
    assert call_record(ioctl("VFIO_DEVICE_RESET"))["failed_allocation"] is None


def test_a_call_that_never_returned_has_a_record():
    entry = Entry(1.0, None, "user", "VFIO_DEVICE_RESET", "5", NEVER_RETURNED, syscall="ioctl")
    found = call_record(entry)
    assert (found["result"], found["ended"], found["value"]) == ("never returned", None, None)
