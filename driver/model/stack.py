# SPDX-License-Identifier: MIT
"""What may lie above the driver: things to do with received frames, and frames made on the host."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from driver.model.errors import NoMemoryError
from driver.model.host import Host
from driver.model.skb import SkbBatch
from driver.model.structs import Priv
from driver.model.tx import dmabed_start_xmit
from emulator.frames import FrameBatch
from pool.buffers import NO_IOVA, PAGE_SIZE, BufferBatch
from pool.interface import Context, PageAllocator


class Drop:
    """Shows every batch to ``look`` and frees it at once, as XDP_DROP would."""

    def __init__(self, look: Callable[[FrameBatch], None] | None = None) -> None:
        self._look = look
        self.received = 0

    async def receive(self, priv: Priv, queue: int, skbs: SkbBatch) -> None:
        """See :class:`~driver.model.structs.Stack`."""
        self.received += len(skbs)
        if self._look is not None:
            self._look(skbs.frames(priv.host.memory))
        skbs.free(Context.NAPI)

    async def wake(self, priv: Priv, queue: int) -> None:
        """Nothing is ever waiting."""


class Hold:
    """Keeps every frame until :meth:`release`, as a slow socket on another CPU would."""

    def __init__(self) -> None:
        self.held: list[SkbBatch] = []

    async def receive(self, priv: Priv, queue: int, skbs: SkbBatch) -> None:
        """See :class:`~driver.model.structs.Stack`."""
        self.held.append(skbs)

    async def wake(self, priv: Priv, queue: int) -> None:
        """Nothing is ever waiting."""

    def release(self, context: Context = Context.REMOTE) -> None:
        """Frees everything held."""
        held, self.held = self.held, []
        for skbs in held:
            skbs.free(context)


class Forward:
    """Sends every frame out of the queue it came in on; frames without room wait their turn."""

    def __init__(self) -> None:
        self.waiting: dict[int, list[SkbBatch]] = {}

    async def receive(self, priv: Priv, queue: int, skbs: SkbBatch) -> None:
        """See :class:`~driver.model.structs.Stack`."""
        self.waiting.setdefault(queue, []).append(skbs)
        await self.wake(priv, queue)

    async def wake(self, priv: Priv, queue: int) -> None:
        """See :class:`~driver.model.structs.Stack`."""
        waiting = self.waiting.get(queue, [])
        while waiting:
            later = await dmabed_start_xmit(priv, queue, waiting[0])
            if len(later):
                waiting[0] = later
                return
            waiting.pop(0)

    def release(self) -> None:
        """Frees what still waits."""
        for waiting in self.waiting.values():
            for skbs in waiting:
                skbs.free(Context.REMOTE)
        self.waiting.clear()


class LocalPages:
    """Owner of frames made on the host: their pages go back to the page allocator."""

    def __init__(self, pages: PageAllocator) -> None:
        self._pages = pages
        self.freed = 0

    def give(self, batch: BufferBatch, context: Context) -> None:
        """See :class:`~driver.model.skb.BufferOwner`."""
        self.freed += len(batch)
        self._pages.free_pages(batch.pfns)

    def skbs(self, host: Host, frames: FrameBatch, piece_bytes: int = PAGE_SIZE) -> SkbBatch:
        """``frames`` copied to pages of their own, at most ``piece_bytes`` in each.

        Raises:
            NoMemoryError: there are not enough pages; none was taken.
        """
        counts = -(-frames.lengths // piece_bytes)
        total = int(counts.sum())
        pfns = self._pages.alloc_pages(total)
        if len(pfns) < total:
            self._pages.free_pages(pfns)
            raise NoMemoryError(f"{len(pfns)} of {total} pages for {len(frames)} frames")
        place = (np.arange(total) - np.repeat(np.cumsum(counts) - counts, counts)) * piece_bytes
        lengths = np.minimum(np.repeat(frames.lengths, counts) - place, piece_bytes)
        sources = np.repeat(frames.offsets, counts) + place
        for pfn, start, length in zip(
            pfns.tolist(), sources.tolist(), lengths.tolist(), strict=True
        ):
            at = pfn * PAGE_SIZE
            host.memory[at : at + length] = frames.data[start : start + length]
        nowhere = np.full(total, NO_IOVA, np.uint64)
        buffers = BufferBatch.uniform(
            pfns, nowhere, length=PAGE_SIZE, offset=0, headroom=0, domain=-1
        )
        return SkbBatch(buffers, lengths, counts, self, -1)
