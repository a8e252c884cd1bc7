"""Is everything after many rounds as it was before?

Reports: sriov-network-operator 233 and 802 (VFs missing after many rounds). `--lab-rounds 200`
makes as many rounds as the reports; the catalogue makes fewer.
"""

from functools import partial

import pytest

from vfio_lab.client.memory import PAGE_BYTES, pinned_bytes
from vfio_lab.hw.models import MIB
from vfio_lab.uapi.vfio import VFIO_PCI_BAR0_REGION_INDEX as BAR
from vfio_lab.uapi.vfio import VFIO_PCI_MSIX_IRQ_INDEX as MSIX
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.dma import IOVA, locked_bytes
from vfio_lab_pytest.many import books, repeat, slab_bytes
from vfio_lab_pytest.tokens import TOKEN

ALL_VFS = 7
MANY = 5  # times as many rounds of what takes no time
EACH_ACCESS = pytest.mark.parametrize(
    "access", ["group", pytest.param("cdev", marks=pytest.mark.needs("VFIO_DEVICE_CDEV"))]
)


@claim("O01")
def test_vfs_that_come_and_go_are_the_same_in_each_round(guest, pf, rounds):
    """Enabling and disabling VFs many times gives the same VFs and leaves nothing behind."""
    before, seen = books(guest), []
    repeat(
        rounds, lambda: seen.append([str(vf) for vf in pf.enable_vfs(2)]), partial(pf.enable_vfs, 0)
    )
    assert seen == [seen[0]] * rounds
    assert books(guest) == before


@claim("O02")
def test_vfs_that_are_used_in_each_round_leave_nothing(guest, pf, pf_user, vf_user, rounds):
    """VFs that are enabled, opened, closed and disabled many times leave nothing behind."""
    before, holder = books(guest), pf_user.open(pf, TOKEN)
    repeat(
        max(1, rounds // 4),
        lambda: pf.enable_vfs(2),
        lambda: [vf_user.open(vf, TOKEN).close() for vf in pf.vfs()],
        lambda: pf.enable_vfs(0),
    )
    holder.close()
    assert books(guest) == before


@claim("O03")
@EACH_ACCESS
def test_a_device_that_is_opened_and_closed_leaves_nothing(guest, user, function, access, rounds):
    """Opening and closing a device many times leaves no range, interrupt, node or memory behind."""
    user.open(function, access=access).close()
    before, slab = books(guest), slab_bytes(guest)
    repeat(MANY * rounds, lambda: user.open(function, access=access).close())
    assert books(guest) == before
    assert slab_bytes(guest) - slab < MIB


@claim("O04")
def test_a_driver_that_comes_and_goes_leaves_nothing(guest, pf, rounds):
    """Binding and unbinding vfio-pci many times leaves nothing behind."""
    repeat(1, pf.unbind, pf.bind_with_sriov)
    before = books(guest)
    repeat(rounds, pf.unbind, pf.bind_with_sriov)
    after = books(guest)
    assert (after.ranges, after.holders) == (before.ranges, before.holders)
    assert {name: len(names) for name, names in after.names.items()} == {
        name: len(names) for name, names in before.names.items()
    }


@claim("O05")
def test_memory_that_is_mapped_and_unmapped_is_free(user, mappings, rounds):
    """Mapping and unmapping memory many times leaves no mapping and nothing locked."""
    memory, left = user.allocate(16 * PAGE_BYTES), mappings.dma_avail()
    repeat(
        MANY * rounds,
        lambda: mappings.map_dma(memory, IOVA, 16 * PAGE_BYTES),
        lambda: mappings.unmap_dma(IOVA, 16 * PAGE_BYTES),
    )
    assert (mappings.dma_avail(), locked_bytes(user)) == (left, 0)


@claim("O06")
def test_address_spaces_that_come_and_go_leave_nothing(user, bound_device, rounds):
    """Making, filling, attaching and destroying address spaces many times leaves nothing pinned."""
    memory, iommufd, made = user.allocate(PAGE_BYTES), bound_device.iommufd, []
    repeat(
        rounds,
        lambda: made.append(iommufd.ioas_alloc()),
        lambda: iommufd.ioas_map(made[-1], memory, PAGE_BYTES, IOVA),
        lambda: bound_device.attach_iommufd_pt(made[-1]),
        bound_device.detach_iommufd_pt,
        lambda: iommufd.destroy(made[-1]),
    )
    assert pinned_bytes(user) == 0


@claim("O07")
def test_interrupts_that_are_set_up_and_disabled_leave_nothing(guest, device, irq_fd, rounds):
    """Setting up and disabling MSI-X many times leaves no interrupt behind."""
    before = books(guest)
    repeat(
        MANY * rounds,
        lambda: device.set_irq_eventfds(MSIX, [irq_fd.fd] * 3),
        lambda: device.disable_irqs(MSIX),
    )
    assert books(guest) == before


@claim("O08")
def test_all_vfs_of_a_pf_are_used_at_once(guest, pf, pf_user):
    """All VFs of a PF can be held by as many users, who may close them in any order."""
    pf_user.open(pf, TOKEN).close()
    holder, vfs = pf_user.open(pf), pf.enable_vfs(ALL_VFS)
    used = [guest.user(f"user {n}").open(vf, TOKEN) for n, vf in enumerate(vfs)]
    assert len({vf.group for vf in vfs}) == ALL_VFS
    _ = [device.user.peek(device.mmap_region(BAR, PAGE_BYTES), 4, 4) for device in used]
    _ = [device.close() for device in used[::2] + used[1::2]]
    holder.close()
    _ = [device.user.kill() for device in used]
    assert pf.enable_vfs(0) == []
