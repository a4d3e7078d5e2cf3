# SPDX-License-Identifier: MIT
"""What a device says about itself, as messages, and whether an access fits to it.

A catalogue is taken once per session, so that no access has to ask the device for its layout.
Payloads come in and go out without the header; refusals are :class:`VfioUserError`.
"""

from __future__ import annotations

import sys
from errno import EINVAL

from emulator.vfio_user.device import Device, IrqAction, IrqSet, RegionInfo
from emulator.vfio_user.errors import VfioUserError
from emulator.vfio_user.messages import (
    DEVICE_INFO,
    IRQ_INFO,
    IRQ_SET,
    REGION_CAP_SPARSE_MMAP,
    REGION_INFO,
    REGION_IO_FDS,
    SPARSE_MMAP_DECL,
    IrqFlag,
    IrqSetFlag,
    RegionFlag,
)

# An integer: the complement of a flag of an enum would not have the bits that have no name.
_DATA_FLAGS = int(IrqSetFlag.DATA_NONE | IrqSetFlag.DATA_BOOL | IrqSetFlag.DATA_EVENTFD)
_ACTIONS = {
    IrqSetFlag.ACTION_MASK: IrqAction.MASK,
    IrqSetFlag.ACTION_UNMASK: IrqAction.UNMASK,
    IrqSetFlag.ACTION_TRIGGER: IrqAction.TRIGGER,
}


def _sparse_capability(region: RegionInfo) -> bytes:
    if not region.mmap_areas or region.fd is None:
        return b""
    areas = [{"offset": area.offset, "size": area.size} for area in region.mmap_areas]
    fields = {"id": REGION_CAP_SPARSE_MMAP, "version": 1, "next": 0, "reserved": 0}
    return bytes(SPARSE_MMAP_DECL.build({**fields, "nr_areas": len(areas), "areas": areas}))


def _argsz(payload: memoryview, size: int, what: str) -> None:
    """Refuses a query that is shorter than its structure or leaves no room for the reply's."""
    if len(payload) < size:
        raise VfioUserError(EINVAL, f"{what} of {len(payload)} bytes, {size} are needed")
    argsz = int.from_bytes(payload[:4], sys.byteorder)
    if argsz < size:
        raise VfioUserError(EINVAL, f"{what} with argsz {argsz}, {size} are needed")


class Catalogue:
    """The descriptions of one device: ``info``, ``regions`` and ``irqs``, by index."""

    def __init__(self, device: Device) -> None:
        self.info = device.info()
        self.regions = [device.region(index) for index in range(self.info.num_regions)]
        self.irqs = [device.irq(index) for index in range(self.info.num_irqs)]
        # For every access of the guest: plain integers, since flags of an enum are slow to test.
        self._limits = [(region.size, int(region.flags)) for region in self.regions]

    def device_info(self, payload: memoryview) -> bytes:
        """Answers DEVICE_GET_INFO."""
        _argsz(payload, DEVICE_INFO.size, "DEVICE_GET_INFO")
        info = self.info
        return DEVICE_INFO.pack(DEVICE_INFO.size, info.flags, info.num_regions, info.num_irqs)

    def region_info(self, payload: memoryview, may_send_fds: bool) -> tuple[bytes, tuple[int, ...]]:
        """Answers DEVICE_GET_REGION_INFO: payload, and the descriptor to send with it.

        If the client's argsz has no room for the capabilities they are left out and argsz says
        what is needed (section "Message sizes"). ``cap_offset`` is set in any case: QEMU checks
        it before it looks at argsz.
        """
        _argsz(payload, REGION_INFO.size, "DEVICE_GET_REGION_INFO")
        argsz, _, index, _, _, _ = REGION_INFO.unpack_from(payload)
        region = self._region(index)
        flags = region.flags & ~(RegionFlag.MMAP | RegionFlag.CAPS)
        fds: tuple[int, ...] = ()
        capability = b""
        if region.fd is not None and may_send_fds:
            flags, fds = flags | RegionFlag.MMAP, (region.fd,)
            capability = _sparse_capability(region)
        needed = REGION_INFO.size + len(capability)
        cap_offset = 0
        if capability:
            flags, cap_offset = flags | RegionFlag.CAPS, REGION_INFO.size
        fixed = REGION_INFO.pack(needed, flags, index, cap_offset, region.size, region.fd_offset)
        return (fixed + capability if argsz >= needed else fixed), fds

    def region_io_fds(self, payload: memoryview) -> bytes:
        """Answers DEVICE_GET_REGION_IO_FDS: no region has sub-regions with descriptors."""
        _argsz(payload, REGION_IO_FDS.size, "DEVICE_GET_REGION_IO_FDS")
        _, flags, index, _ = REGION_IO_FDS.unpack_from(payload)
        self._region(index)
        if flags:
            raise VfioUserError(EINVAL, f"DEVICE_GET_REGION_IO_FDS with flags {flags:#x}, not 0")
        return REGION_IO_FDS.pack(REGION_IO_FDS.size, 0, index, 0)

    def irq_info(self, payload: memoryview) -> bytes:
        """Answers DEVICE_GET_IRQ_INFO."""
        _argsz(payload, IRQ_INFO.size, "DEVICE_GET_IRQ_INFO")
        _, _, index, _ = IRQ_INFO.unpack_from(payload)
        if index >= len(self.irqs):
            raise VfioUserError(EINVAL, f"interrupt type {index} of {len(self.irqs)}")
        irq = self.irqs[index]
        return IRQ_INFO.pack(IRQ_INFO.size, irq.flags, index, irq.count)

    def check_access(self, index: int, offset: int, count: int, flag: int) -> None:
        """Refuses with EINVAL what does not lie in a region that may be accessed this way."""
        limits = self._limits
        size, flags = limits[index] if index < len(limits) else (0, 0)
        if offset + count > size or not flags & flag:
            self._region(index)
            raise VfioUserError(
                EINVAL,
                f"{RegionFlag(flag).name} of {count} bytes at {offset:#x} of region {index}, "
                f"which has {size} bytes and flags {flags:#x}",
            )

    def irq_set(self, payload: memoryview, fds: list[int]) -> IrqSet:
        """The request in a DEVICE_SET_IRQS with these descriptors."""
        _argsz(payload, IRQ_SET.size, "DEVICE_SET_IRQS")
        _, flags, index, start, count = IRQ_SET.unpack_from(payload)
        data, action = IrqSetFlag(flags & _DATA_FLAGS), IrqSetFlag(flags & ~_DATA_FLAGS)
        if action not in _ACTIONS or data.bit_count() != 1:
            raise VfioUserError(EINVAL, f"DEVICE_SET_IRQS with flags {flags:#x}")
        self._check_irqs(index, start, count, data, action)
        bools = self._bools(payload[IRQ_SET.size :], count, data)
        wants_fds = data == IrqSetFlag.DATA_EVENTFD
        if len(fds) not in ((0, count) if wants_fds else (0,)):
            raise VfioUserError(EINVAL, f"DEVICE_SET_IRQS of {count} with {len(fds)} descriptors")
        return IrqSet(
            index, _ACTIONS[action], start, count, tuple(fds) if wants_fds else None, bools
        )

    def _region(self, index: int) -> RegionInfo:
        if index >= len(self.regions):
            raise VfioUserError(EINVAL, f"region {index} of {len(self.regions)}")
        return self.regions[index]

    def _check_irqs(
        self, index: int, start: int, count: int, data: IrqSetFlag, action: IrqSetFlag
    ) -> None:
        if index >= len(self.irqs):
            raise VfioUserError(EINVAL, f"interrupt type {index} of {len(self.irqs)}")
        irq = self.irqs[index]
        disables = start == 0 and data == IrqSetFlag.DATA_NONE
        if start + count > irq.count or (count == 0 and not disables):
            raise VfioUserError(EINVAL, f"interrupts {start}+{count} of {irq.count}, type {index}")
        if data == IrqSetFlag.DATA_EVENTFD and not irq.flags & IrqFlag.EVENTFD:
            raise VfioUserError(EINVAL, f"interrupt type {index} takes no event descriptors")
        if action != IrqSetFlag.ACTION_TRIGGER and not irq.flags & IrqFlag.MASKABLE:
            raise VfioUserError(EINVAL, f"interrupt type {index} cannot be masked")

    @staticmethod
    def _bools(tail: memoryview, count: int, data: IrqSetFlag) -> tuple[bool, ...] | None:
        if data != IrqSetFlag.DATA_BOOL:
            return None
        if len(tail) != count:
            raise VfioUserError(EINVAL, f"DEVICE_SET_IRQS of {count} with {len(tail)} booleans")
        return tuple(map(bool, tail))
