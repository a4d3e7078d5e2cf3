# SPDX-License-Identifier: MIT
"""A tiny device to serve over vfio-user: registers, regions to map, four interrupts."""

from __future__ import annotations

import os
from bisect import bisect_left, bisect_right
from errno import EEXIST, EINVAL
from typing import Any

from emulator.vfio_user.backing import GuestMemory
from emulator.vfio_user.device import DeviceInfo, IrqInfo, IrqSet, MmapArea, RegionInfo
from emulator.vfio_user.errors import VfioUserError
from emulator.vfio_user.messages import IrqFlag, PciIrq, PciRegion, RegionFlag
from tests.support.vfio_user_irqs import EventFdTable

RW = RegionFlag.READ | RegionFlag.WRITE
BAR0_SIZE = 1 << 21
BAR2_SIZE = 3 * 4096


class ExampleDevice:
    """Remembers what was asked of it in ``calls``; ``map_ns`` and ``unmap_ns`` are its delays."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.mappings: dict[int, tuple[int, int | None, int]] = {}
        self.starts: list[int] = []
        self.memory = GuestMemory()
        self.irqs = EventFdTable(4)
        self.map_ns = self.unmap_ns = 0
        self.bar0 = bytearray(BAR0_SIZE)
        self.bar2_fd = os.memfd_create("bar2")
        os.ftruncate(self.bar2_fd, BAR2_SIZE)
        self.closed_reasons: list[str] = []
        self.on_write: Any = None

    def free(self) -> None:
        """Gives up the descriptor of its own."""
        os.close(self.bar2_fd)

    def info(self) -> DeviceInfo:
        return DeviceInfo()

    def region(self, index: int) -> RegionInfo:
        if index == PciRegion.BAR0:
            return RegionInfo(BAR0_SIZE, RW)
        if index == PciRegion.BAR2:
            areas = (MmapArea(0, 4096), MmapArea(8192, 4096))
            return RegionInfo(BAR2_SIZE, RW, self.bar2_fd, 0, areas)
        if index == PciRegion.BAR4:
            return RegionInfo(4096, RW, self.bar2_fd, 4096)
        if index == PciRegion.ROM:
            return RegionInfo(256, RegionFlag.READ)
        return RegionInfo(256, RW) if index == PciRegion.CONFIG else RegionInfo()

    def irq(self, index: int) -> IrqInfo:
        if index == PciIrq.MSIX:
            return IrqInfo(len(self.irqs), IrqFlag.EVENTFD | IrqFlag.MASKABLE)
        if index == PciIrq.ERR:
            return IrqInfo(1, IrqFlag.EVENTFD)
        return IrqInfo(1) if index == PciIrq.INTX else IrqInfo()

    def region_read(self, index: int, offset: int, count: int) -> bytes:
        if index == PciRegion.BAR0:
            return bytes(self.bar0[offset : offset + count])
        return bytes((index + offset + k) & 0xFF for k in range(count))

    def region_write(self, index: int, offset: int, data: memoryview) -> None:
        self.calls.append(("write", index, offset, bytes(data)))
        if index == PciRegion.BAR0:
            self.bar0[offset : offset + len(data)] = data
        if self.on_write is not None:
            self.on_write(index, offset, data)

    def overlapping(self, iova: int, size: int) -> list[int]:
        """The starts of the mappings that touch a range."""
        first = bisect_right(self.starts, iova) - 1
        if first >= 0 and self.starts[first] + self.mappings[self.starts[first]][0] > iova:
            return self.starts[first : bisect_left(self.starts, iova + size)]
        return self.starts[first + 1 : bisect_left(self.starts, iova + size)]

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
        if self.overlapping(iova, size):
            raise VfioUserError(EEXIST, f"{iova:#x} is mapped")
        backing = None
        if fd is not None:
            backing = self.memory.attach(fd, offset + size, writable).index
        self.calls.append(("map", iova, size, readable, writable, offset, now_ns))
        self.mappings[iova] = (size, backing, offset)
        self.starts.insert(bisect_left(self.starts, iova), iova)
        return self.map_ns

    def dma_unmap_begin(self, iova: int, size: int, unmap_all: bool, now_ns: int) -> int:
        if not unmap_all:
            for start in self.overlapping(iova, size):
                if start < iova or start + self.mappings[start][0] > iova + size:
                    raise VfioUserError(EINVAL, "the range cuts a mapping in two")
        self.calls.append(("unmap begin", iova, size, unmap_all, now_ns))
        return self.unmap_ns

    def dma_unmap_finish(self, iova: int, size: int, unmap_all: bool, now_ns: int) -> None:
        self.calls.append(("unmap finish", iova, size, unmap_all, now_ns))
        if unmap_all:
            self.mappings.clear()
            self.starts.clear()
            return
        gone = self.overlapping(iova, size)
        for start in gone:
            del self.mappings[start]
        if gone:
            first = bisect_left(self.starts, gone[0])
            del self.starts[first : first + len(gone)]

    def set_irqs(self, request: IrqSet) -> None:
        self.calls.append(("irqs", request))
        if request.index == PciIrq.MSIX:
            self.irqs.apply(request)
        else:
            raise VfioUserError(EINVAL, "only MSI-X here")

    def reset(self, now_ns: int) -> None:
        self.calls.append(("reset", now_ns))

    def closed(self, reason: str, now_ns: int) -> None:
        self.closed_reasons.append(reason)
        self.mappings.clear()
        self.starts.clear()
        self.irqs.close()
        self.memory.release()
