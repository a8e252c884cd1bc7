"""What the administrator does: drivers, VFs, module parameters."""

from __future__ import annotations

from errno import EBUSY, EINVAL, ENOENT, ERANGE

from vfio_lab.model.rules import Blocks, Facts, deny_if, rule
from vfio_lab.model.state import MANAGED, VFIO, ContainerModel, PciModel, State

PF_STUB = "pci-pf-stub"
CAPTURED = "Captured SR-IOV VF"
HAS_VFS = "Cannot bind to PF with SR-IOV enabled"
FOREIGN = "while PF bound to driver"
FAKE_GROUP = "Adding kernel taint for vfio-noiommu group"
FAKE_CDEV = "Adding kernel taint for vfio-noiommu cdev"


@rule("A01", "A10", "A45", "B14", "B22", "D04", "D06", "D08", "D09", "E09", "E11", "E12")
def bind(state: State, user: str, function: str, driver: str) -> None:
    """Bind a driver to a function, taking it from the driver that has it.

    Source: drivers/vfio/pci/vfio_pci_core.c, vfio_pci_core_register_device();
    drivers/vfio/group.c, vfio_group_find_or_alloc().
    """
    unbind(state, user, function)
    it = state.functions[function]
    pf = state.functions.get(it.place.pf or "")
    vfio_pf = pf if pf and pf.driver == VFIO else None
    if driver == VFIO:
        state.log += (HAS_VFS,) if it.vfs else ()
        deny_if(it.vfs, EBUSY)
        if it.place.group is None:
            deny_if(not state.noiommu, EINVAL)
            it.noiommu = state.tainted = True
            state.log += (FAKE_GROUP, FAKE_CDEV) if state.platform.noiommu_cdev else (FAKE_GROUP,)
        it.token, it.token_pf = "random" if it.place.total_vfs else None, vfio_pf
    else:
        deny_if(driver not in MANAGED and state.owner(it.group) not in (None, "kernel"), EBUSY)
        state.log += (FOREIGN,) if vfio_pf else ()  # A46
    it.driver = driver


@rule("B20", "B24", "D07", "E12")
def unbind(state: State, user: str, function: str) -> None:
    """Take a function from its driver; vfio-pci waits until all users of it are gone."""
    it = state.functions[function]
    if it.driver == VFIO:
        if state.devices(it):
            raise Blocks
        _remove_vfs(state, user, it)
        others = {each.driver for each in state.members(it.group) if each is not it}
        if (file := state.group(it.group)) and VFIO not in others:
            file.gone = True
            if isinstance(file.container, ContainerModel):
                file.container = None
            state.release()
    it.driver = it.token = it.token_pf = None
    it.noiommu = False


@rule("B01", "B02", "B03", "B06", "B08", "B09", "B10", "B11", "B12", "B13", "B23", "D31", "D32")
def set_numvfs(state: State, user: str, function: str, count: int) -> None:
    """Write sriov_numvfs.

    Source: drivers/pci/iov.c, sriov_numvfs_store(); drivers/vfio/pci/vfio_pci.c,
    vfio_pci_sriov_configure().
    """
    it = state.functions[function]
    deny_if(count > it.place.total_vfs, ERANGE)
    if count == it.vfs:
        return
    deny_if(it.driver not in (VFIO, PF_STUB), ENOENT)
    deny_if(count and it.vfs, EBUSY)
    deny_if(it.driver == VFIO and not state.enable_sriov, ENOENT)
    _remove_vfs(state, user, it)
    it.vfs = count
    for role in state.platform.vfs(function, count):
        vf = state.functions[role] = PciModel(state.platform.places[role])
        if it.driver == VFIO:
            state.log += (CAPTURED,)
            if vf.place.group or state.noiommu:
                bind(state, user, role, VFIO)


def _remove_vfs(state: State, user: str, pf: PciModel) -> None:
    for role in state.platform.vfs(pf.role, pf.vfs):
        unbind(state, user, role)
        del state.functions[role]
    pf.vfs = 0


@rule("B02", "B12", "D03")
def set_parameter(state: State, user: str, name: str, on: bool) -> None:
    """Write a module parameter."""
    setattr(state, name, on)


def seen(state: State) -> Facts:
    """Return what the administrator sees: drivers, the nodes in /dev/vfio, the taint, the log."""
    on_vfio = [each for each in state.functions.values() if each.driver == VFIO]
    fakes = sum(each.noiommu for each in on_vfio)
    present = [each for each in state.functions.values() if not each.place.bridge]
    return {
        "drivers": {each.role: each.driver for each in present},
        "groups": len({each.group for each in on_vfio if not each.noiommu}),
        "noiommu groups": fakes,
        "cdevs": len(on_vfio) - fakes if state.platform.cdev else 0,
        "noiommu cdevs": fakes if state.platform.noiommu_cdev else 0,
        "tainted": state.tainted,
        "log": tuple(sorted(state.log)),
    }
