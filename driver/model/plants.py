# SPDX-License-Identifier: MIT
"""Bugs to plant in the reference driver: one class each, which does one step wrong.

A plant writes 0x100 + its number to the NOTE register when it first acts, as those of the kernel
module do, so that the time until it is found can be told.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from driver.model.host import Coherent, Host, run_to_completion
from driver.model.rx import dmabed_rx_drain
from driver.model.skb import SkbBatch
from driver.model.steps import Steps
from driver.model.structs import Priv, Qp
from emulator.nic import registers as r
from pool.buffers import NO_IOVA, PAGE_SIZE, BufferBatch, IovaArray, PfnArray
from pool.interface import Context, Direction, DmaApi

NOTE_PLANT = 0x100
FOR_NOTHING_NS = 8_000_000_000
"""Longer than ifdown may take."""


class Plant(Steps):
    """Base of the plants; ``number`` as in :mod:`testbed.plants.catalogue`."""

    number: ClassVar[int]

    def __init__(self) -> None:
        self.acted = False

    async def acts(self, host: Host) -> bool:
        """True the first time; the device is told."""
        if self.acted:
            return False
        self.acted = True
        await host.mmio_write32(r.DMABED_NOTE, NOTE_PLANT + self.number)
        return True


class DrainEarly(Plant):
    """P1: the buffers are given back, and so unmapped, while their ring still runs."""

    number = 1

    async def before_down(self, priv: Priv, pairs: list[Qp]) -> None:
        """See :class:`~driver.model.steps.Steps`."""
        if await self.acts(priv.host):
            await dmabed_rx_drain(pairs[0])


class ForgetUndo(Plant):
    """P2: what was mapped for a frame that cannot be sent stays mapped."""

    number = 2

    def undo_maps(self, priv: Priv, iovas: NDArray[np.uint64], orders: NDArray[np.int64]) -> int:
        """See :class:`~driver.model.steps.Steps`."""
        run_to_completion(self.acts(priv.host))
        return 0


class UnmapTwice(Plant):
    """P3: the driver unmaps a page that the pool unmaps too."""

    number = 3

    async def drained(self, qp: Qp, buffers: BufferBatch) -> None:
        """See :class:`~driver.model.steps.Steps`."""
        if len(buffers) and await self.acts(qp.priv.host):
            page = buffers.iovas[:1] // np.uint64(PAGE_SIZE) * np.uint64(PAGE_SIZE)
            qp.priv.host.dma.unmap_pages(page)


class PageShort(Plant):
    """P4: of ring memory that is mapped page by page, one page is not unmapped."""

    number = 4

    async def free_rings(self, priv: Priv, block: Coherent) -> None:
        """See :class:`~driver.model.steps.Steps`."""
        if not await self.acts(priv.host):
            await super().free_rings(priv, block)


class FreeAfterFailedReload(Plant):
    """P5: a reload fails, the ring goes on, and its pages are freed all the same."""

    number = 5

    async def reload_failed(self, priv: Priv) -> None:
        """See :class:`~driver.model.steps.Steps`."""
        if await self.acts(priv.host):
            await dmabed_rx_drain(priv.set[0])


class RecycleEarly(Plant):
    """P6: buffers go back to the pool while the stack reads them."""

    number = 6

    async def delivered(self, qp: Qp, skbs: SkbBatch) -> None:
        """See :class:`~driver.model.steps.Steps`."""
        if await self.acts(qp.priv.host):
            skbs.free(Context.NAPI)


class DestroyEarly(Plant):
    """P8: the pool goes, with all its mappings, while NAPI and the ring still use it."""

    number = 8

    async def before_down(self, priv: Priv, pairs: list[Qp]) -> None:
        """See :class:`~driver.model.steps.Steps`."""
        if await self.acts(priv.host):
            rx = pairs[0].rx
            rx.pool.give(rx.buffers.get(rx.next, rx.posted - rx.next), Context.TEARDOWN)
            rx.next = rx.posted
            rx.pool.close()


class TrustIndex(Plant):
    """P10: a buffer is looked up by the number in the completion."""

    number = 10

    def agreed(self, entries: NDArray[Any], slots: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Raises IndexError where the kernel would read beyond an array."""
        known = np.arange(1 << 12)
        found: NDArray[np.bool_] = known[entries["id"]] >= 0
        return found


class LeaveMaster(Plant):
    """P13: the device may still do DMA when the driver is gone."""

    number = 13

    async def master_off(self, priv: Priv) -> None:
        """See :class:`~driver.model.steps.Steps`."""
        await self.acts(priv.host)


class MapElsewhere(Plant):
    """P17: receive buffers are mapped in the domain of another device, ``other``."""

    number = 17

    def __init__(self, other: Host) -> None:
        super().__init__()
        self._other = other

    def pool_dma(self, host: Host) -> DmaApi:
        """See :class:`~driver.model.steps.Steps`."""
        run_to_completion(self.acts(host))
        return self._other.dma


class BothDma(DmaApi):
    """Maps every page for two devices; what is handed out are the addresses of the first."""

    def __init__(self, dma: DmaApi, other: DmaApi) -> None:
        self._dma, self._other = dma, other
        self._twins: dict[int, int] = {}

    @property
    def domain(self) -> int:
        """See :class:`pool.interface.DmaApi`."""
        return self._dma.domain

    def map_pages(self, pfns: PfnArray, direction: Direction, order: int = 0) -> IovaArray:
        """See :class:`pool.interface.DmaApi`."""
        iovas = self._dma.map_pages(pfns, direction, order)
        twins = self._other.map_pages(pfns, direction, order)
        self._twins.update(zip(iovas.tolist(), twins.tolist(), strict=True))
        return iovas

    def unmap_pages(self, iovas: IovaArray, order: int = 0) -> None:
        """See :class:`pool.interface.DmaApi`."""
        self._dma.unmap_pages(iovas, order)
        twins = [self._twins.pop(iova) for iova in iovas.tolist()]
        self._other.unmap_pages(np.array(twins, np.uint64), order)

    def sync_for_device(self, iovas: IovaArray, lengths: NDArray[np.int64]) -> None:
        """See :class:`pool.interface.DmaApi`."""
        self._dma.sync_for_device(iovas, lengths)

    def sync_for_cpu(self, iovas: IovaArray, lengths: NDArray[np.int64]) -> None:
        """See :class:`pool.interface.DmaApi`."""
        self._dma.sync_for_cpu(iovas, lengths)


class SharePool(MapElsewhere):
    """P15: one pool for two devices, its pages mapped for both."""

    number = 15

    def pool_dma(self, host: Host) -> DmaApi:
        """See :class:`~driver.model.steps.Steps`."""
        run_to_completion(self.acts(host))
        return BothDma(host.dma, self._other.dma)


class BuildBeforeUnmap(Plant):
    """P18: a buffer goes to the stack before it is unmapped."""

    number = 18

    async def received(
        self, qp: Qp, buffers: BufferBatch, lengths: NDArray[np.int64]
    ) -> BufferBatch:
        """The unmap is left to whoever gives the buffer back."""
        if len(buffers):
            await self.acts(qp.priv.host)
        return buffers


class LeavePool(Plant):
    """P19: the driver goes while the stack holds pages that its pool has mapped."""

    number = 19

    def close(self, qp: Qp) -> int:
        """See :class:`~driver.model.steps.Steps`."""
        left = super().close(qp)
        if left:
            run_to_completion(self.acts(qp.priv.host))
        return left


class Unchecked(DmaApi):
    """A DMA API whose caller does not look for DMA_MAPPING_ERROR: it fails once."""

    def __init__(self, dma: DmaApi, plant: Plant, host: Host) -> None:
        self._dma, self._plant, self._host = dma, plant, host
        self._bogus = NO_IOVA - PAGE_SIZE + 1

    @property
    def domain(self) -> int:
        """See :class:`pool.interface.DmaApi`."""
        return self._dma.domain

    def map_pages(self, pfns: PfnArray, direction: Direction, order: int = 0) -> IovaArray:
        """The first call's first page is refused, and its address passes for a good one."""
        iovas = self._dma.map_pages(pfns, direction, order)
        if len(iovas) and run_to_completion(self._plant.acts(self._host)):
            self._dma.unmap_pages(iovas[:1], order)
            iovas[0] = self._bogus
        return iovas

    def unmap_pages(self, iovas: IovaArray, order: int = 0) -> None:
        """See :class:`pool.interface.DmaApi`."""
        self._dma.unmap_pages(iovas[iovas != np.uint64(self._bogus)], order)

    def sync_for_device(self, iovas: IovaArray, lengths: NDArray[np.int64]) -> None:
        """See :class:`pool.interface.DmaApi`."""
        self._dma.sync_for_device(iovas, lengths)

    def sync_for_cpu(self, iovas: IovaArray, lengths: NDArray[np.int64]) -> None:
        """See :class:`pool.interface.DmaApi`."""
        self._dma.sync_for_cpu(iovas, lengths)


class IgnoreMapError(Plant):
    """P20: an address is used although the map failed."""

    number = 20

    def pool_dma(self, host: Host) -> DmaApi:
        """See :class:`~driver.model.steps.Steps`."""
        return Unchecked(host.dma, self, host)


class WaitForNothing(Plant):
    """P21: ifdown waits, with everybody behind it, for something that nobody is going to say."""

    number = 21

    async def before_down(self, priv: Priv, pairs: list[Qp]) -> None:
        """See :class:`~driver.model.steps.Steps`."""
        if await self.acts(priv.host):
            await priv.host.sleep_ns(FOR_NOTHING_NS)


PLANTS: Mapping[int, type[Plant]] = MappingProxyType(
    {
        plant.number: plant
        for plant in (
            DrainEarly, ForgetUndo, UnmapTwice, PageShort, FreeAfterFailedReload, RecycleEarly,
            DestroyEarly, TrustIndex, LeaveMaster, SharePool, MapElsewhere, BuildBeforeUnmap,
            LeavePool, IgnoreMapError, WaitForNothing,
        )
    }
)  # fmt: skip
