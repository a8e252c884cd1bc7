import json
import os
import re
from pathlib import Path

import pytest

from vfio_lab.qemu import accelerator as module
from vfio_lab.qemu.accelerator import Accelerator, choose_accelerator, try_kvm
from vfio_lab.qemu.capabilities import QemuCaps
from vfio_lab.util.cache import Cache


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache").open()


@pytest.fixture
def kvm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A /dev/kvm that opens, on an x86 host without kernels in /boot."""
    node = tmp_path / "kvm"
    node.touch()
    monkeypatch.setattr(module, "KVM", node)
    monkeypatch.setattr(module, "BOOT", tmp_path / "boot")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    return node


@pytest.fixture
def bzimage(tmp_path: Path) -> Path:
    path = tmp_path / "bzImage"
    path.write_bytes(b"kernel")
    return path


def fake_qemu(folder: Path, body: str) -> QemuCaps:
    binary = folder / "qemu"
    binary.write_text(f'#!/bin/sh\necho "$@" >> {folder}/argv\n{body}\n')
    binary.chmod(0o755)
    return QemuCaps(binary, (10, 0, 2), frozenset({"igb"}), body)


@pytest.mark.usefixtures("kvm")
def test_kvm_is_chosen_when_a_kernel_speaks_under_it(
    tmp_path: Path, cache: Cache, bzimage: Path
) -> None:
    caps = fake_qemu(tmp_path, "echo '[    0.000000] Linux version 7.3.4'; sleep 30")
    chosen = choose_accelerator(caps, cache, bzimage)
    assert chosen.name == "kvm"
    assert "a kernel spoke" in chosen.reason
    argv = (tmp_path / "argv").read_text()
    assert "-accel kvm" in argv
    assert "-machine q35,kernel-irqchip=split" in argv
    assert "-cpu host" in argv
    assert f"-kernel {bzimage}" in argv


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("echo 'KVM internal error. Suberror: 1' >&2; sleep 30", "runs no kernel: KVM internal"),
        ("sleep 30", r"a kernel stayed silent for 0\.\d s"),
        ("echo 'Decompressing Linux...'; sleep 30", "stayed silent"),
        ("echo 'cannot set MSRs' >&2; exit 1", "QEMU exited with code 1: cannot set MSRs"),
        ("echo oops; kill -6 $$", "QEMU was killed by signal 6: oops"),
        ("exit 1", "QEMU exited with code 1: <no output>"),
    ],
)
def test_tcg_is_chosen_when_kvm_opens_but_runs_nothing(
    tmp_path: Path, bzimage: Path, body: str, reason: str
) -> None:
    caps = fake_qemu(tmp_path, body)
    chosen = try_kvm(caps.binary, bzimage, patience_s=0.3)
    assert chosen.name == "tcg"
    assert re.search(reason, chosen.reason)


@pytest.mark.usefixtures("kvm")
def test_the_answer_is_kept_until_qemu_kernel_or_boot_changes(
    tmp_path: Path, cache: Cache, bzimage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trials() -> int:
        choose_accelerator(caps, cache, bzimage)
        return len((tmp_path / "argv").read_text().splitlines())

    caps = fake_qemu(tmp_path, "echo Linux version")
    assert [trials(), trials()] == [1, 1]
    bzimage.write_bytes(b"another kernel")
    assert trials() == 2
    boot = tmp_path / "boot_id"
    boot.write_text("another boot")
    monkeypatch.setattr(module, "BOOT_ID", boot)
    assert [trials(), trials()] == [3, 3]
    assert len(cache.keys("accelerator")) == 1


def test_without_the_device_nothing_is_tried(
    tmp_path: Path, cache: Cache, bzimage: Path, kvm: Path
) -> None:
    kvm.unlink()
    caps = fake_qemu(tmp_path, "echo Linux version")
    assert choose_accelerator(caps, cache, bzimage) == Accelerator("tcg", f"there is no {kvm}")
    assert not (tmp_path / "argv").exists()


@pytest.mark.usefixtures("kvm")
def test_a_closed_device_names_the_group_to_join(
    tmp_path: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    chosen = choose_accelerator(fake_qemu(tmp_path, ""), cache)
    assert chosen.name == "tcg"
    assert "join the group kvm" in chosen.reason


@pytest.mark.usefixtures("kvm")
def test_without_any_kernel_nothing_is_remembered(tmp_path: Path, cache: Cache) -> None:
    chosen = choose_accelerator(fake_qemu(tmp_path, "echo Linux version"), cache)
    assert chosen.name == "tcg"
    assert "no kernel yet" in chosen.reason
    assert cache.keys("accelerator") == []


@pytest.mark.usefixtures("kvm")
def test_a_kernel_of_the_cache_is_tried_when_none_is_given(tmp_path: Path, cache: Cache) -> None:
    folder = cache.root / "kernel" / "abc"
    folder.mkdir(parents=True)
    (folder / "bzImage").write_bytes(b"kernel")
    caps = fake_qemu(tmp_path, "echo Linux version")
    assert choose_accelerator(caps, cache).name == "kvm"
    assert f"-kernel {folder}/bzImage" in (tmp_path / "argv").read_text()


def test_the_verdict_survives_as_json(cache: Cache) -> None:
    def judge(scratch: Path) -> None:
        (scratch / "verdict.json").write_text(json.dumps({"name": "tcg", "reason": "why"}))

    entry = cache.obtain("accelerator", "0", judge)
    assert Accelerator(**json.loads((entry / "verdict.json").read_text())).reason == "why"
