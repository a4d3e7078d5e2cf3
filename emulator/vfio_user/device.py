# SPDX-License-Identifier: MIT
"""What a device has to offer to be served over vfio-user, and the descriptions it gives of itself.

All times are integer nanoseconds on the clock that the session is stepped with. A device refuses a
command by raising :class:`~emulator.vfio_user.errors.VfioUserError` with the errno for the client;
any other :class:`~emulator.errors.DmabedError` is answered with EIO.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from emulator.vfio_user.messages import DeviceFlag, IrqFlag, RegionFlag

NO_ACCESS = RegionFlag(0)
NO_IRQ_FLAGS = IrqFlag(0)


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """Answer to DEVICE_GET_INFO. A PCI device has 9 regions and 5 interrupt types."""

    num_regions: int = 9
    num_irqs: int = 5
    flags: DeviceFlag = DeviceFlag.RESET | DeviceFlag.PCI


@dataclass(frozen=True, slots=True)
class MmapArea:
    """A part of a region that the client may map: bytes from the start of the region."""

    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class RegionInfo:
    """A region of ``size`` bytes; size 0: there is none.

    With ``fd`` the client may map it: all of it, or only ``mmap_areas``. ``fd_offset`` is where the
    region begins in that file. The device keeps the descriptor, the client gets a copy.
    """

    size: int = 0
    flags: RegionFlag = NO_ACCESS
    fd: int | None = None
    fd_offset: int = 0
    mmap_areas: tuple[MmapArea, ...] = ()


@dataclass(frozen=True, slots=True)
class IrqInfo:
    """An interrupt type with ``count`` interrupts; count 0: there is none."""

    count: int = 0
    flags: IrqFlag = NO_IRQ_FLAGS


class IrqAction(Enum):
    """What DEVICE_SET_IRQS is about."""

    MASK = "mask"
    UNMASK = "unmask"
    TRIGGER = "trigger"


@dataclass(frozen=True, slots=True)
class IrqSet:
    """A validated DEVICE_SET_IRQS: ``start + count`` lies within the type's count.

    fds: None unless event descriptors are being set; then one per interrupt, or empty to take them
    away. bools: None unless given; then the action is meant for those that are True. With neither,
    the action is meant for all of the range, and ``count`` 0 disables the whole type.
    """

    index: int
    action: IrqAction
    start: int
    count: int
    fds: tuple[int, ...] | None = None
    bools: tuple[bool, ...] | None = None

    @property
    def disables_all(self) -> bool:
        """The special case "count 0": every interrupt of the type goes, with its descriptors."""
        return self.count == 0

    def selected(self) -> list[int]:
        """The interrupts that the action is meant for."""
        numbers = range(self.start, self.start + self.count)
        if self.bools is None:
            return list(numbers)
        return [number for number, chosen in zip(numbers, self.bools, strict=True) if chosen]


class Device(Protocol):
    """A device as the session sees it. The descriptions must not change while it is served."""

    def info(self) -> DeviceInfo:
        """The numbers of regions and interrupt types, and what the device can do."""
        ...

    def region(self, index: int) -> RegionInfo:
        """Region ``index``, 0 <= index < num_regions."""
        ...

    def irq(self, index: int) -> IrqInfo:
        """Interrupt type ``index``, 0 <= index < num_irqs."""
        ...

    def region_read(self, index: int, offset: int, count: int) -> bytes:
        """``count`` > 0 bytes of a region; the range was checked to lie inside it."""
        ...

    def region_write(self, index: int, offset: int, data: memoryview) -> None:
        """Writes to a region; the range was checked. ``data`` is only valid during the call."""
        ...

    def dma_map(
        self,
        iova: int,
        size: int,
        readable: bool,
        writable: bool,
        offset: int,
        fd: int | None,
        now_ns: int,
    ) -> int:
        """Makes ``[iova, iova + size)`` reachable; returns ns to wait before the client is told.

        Sizes and addresses are multiples of 4096 and do not wrap. ``fd`` is borrowed: the session
        closes it when the call returns or raises, so a device that needs the file maps it now
        (see :class:`~emulator.vfio_user.backing.GuestMemory`). Without ``fd`` the memory is
        reached by DMA_READ and DMA_WRITE.

        Raises:
            VfioUserError: EEXIST if it overlaps a mapping (section "VFIO_USER_DMA_MAP").
        """
        ...

    def dma_unmap_begin(self, iova: int, size: int, unmap_all: bool, now_ns: int) -> int:
        """An invalidation starts; returns ns until it is complete. Nothing is taken away yet.

        The range may be huge and hold no mapping at all: QEMU sweeps the address space this way.

        Raises:
            VfioUserError: EINVAL if the range would cut a mapping in two.
        """
        ...

    def dma_unmap_finish(self, iova: int, size: int, unmap_all: bool, now_ns: int) -> None:
        """Takes the mappings away for good: the reply, which completes the invalidation, is next.

        Called once for every ``dma_unmap_begin`` that returned, unless the client dies before.
        Must not refuse: what can be refused is refused at the beginning.
        """
        ...

    def set_irqs(self, request: IrqSet) -> None:
        """Sets, takes away, masks, unmasks or triggers interrupts.

        When this returns, ``request.fds`` belong to the device, which closes them when they are
        replaced, taken away, or in :meth:`closed`. When it raises, the session closes them.
        """
        ...

    def reset(self, now_ns: int) -> None:
        """DEVICE_RESET. Mappings and interrupt descriptors stay: they are the client's."""
        ...

    def closed(self, reason: str, now_ns: int) -> None:
        """The client is gone: unmap everything, close its interrupt descriptors, reset."""
        ...
