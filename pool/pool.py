# SPDX-License-Identifier: MIT
"""A strategy as a driver uses it: batches in and out, every misuse refused by name.

The strategy itself is the kernels that its file implements (:mod:`pool.steps`); this class calls
them, keeps the record of who has which buffer, and turns arrays into :class:`BufferBatch`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from emulator.kernel import Ints
from pool import steps
from pool.buffers import PAGE_SHIFT, PAGE_SIZE, BufferBatch
from pool.counters import OWN, PoolCounters
from pool.errors import PoolClosedError
from pool.guarantees import Guarantees
from pool.interface import Context, DmaApi, PageAllocator, PoolConfig
from pool.pages import PageRecords
from pool.ports import HostPorts
from pool.steps import State

Common = tuple[Ints, Ints, Ints, Ints, Ints, Ints]


class BufferPool:
    """One receive queue's supply of buffers. A strategy subclasses it to make its state."""

    name: ClassVar[str]
    """As in the registry, in scenarios and in the kernel driver's ``rx_mode``."""
    guarantees: Guarantees
    """What the strategy promises about the device's reach; options may change an instance's."""
    own_counters: tuple[str, ...] = ()
    """Names of the counters behind the common ones."""
    slot_bytes: int = PAGE_SIZE
    """The least distance of two buffers in memory."""
    iommu_page_shift: int = PAGE_SHIFT
    """log2 of the pages by which an IOMMU's tables can map what the pool maps."""
    stores_in_allocator: ClassVar[bool] = False
    """The store is one of the page allocator's own lists, and costs what an order-0 page costs."""

    def __init__(self, allocator: PageAllocator, dma: DmaApi, config: PoolConfig) -> None:
        self.config = config
        self.dma, self.ports = dma, HostPorts(allocator, dma, config.direction)
        self.frames = sum(allocator.span)
        self.length = config.buffer_bytes
        self._records: PageRecords | None = None

    state: Any

    def common(self, own_at: int = 0, own_conf: tuple[int, ...] = ()) -> Common:
        """The arrays that a state begins with (:class:`State`).

        own_at: numbers of its own in ``at``; own_conf: its own configuration, behind the common.
        """
        config = self.config
        conf = (config.headroom, self.length, int(config.sync), config.pool_size, *own_conf)
        return (
            np.zeros(steps.AT + own_at, np.int64),
            np.zeros(OWN + len(self.own_counters), np.int64),
            np.array(conf, np.int64),
            steps.no_addresses(self.frames),
            np.zeros(steps.BATCH, np.int64),
            np.zeros(steps.BATCH, np.int64),
        )

    def take(self, n: int) -> BufferBatch:
        """Up to ``n`` mapped buffers for the device; fewer when memory or address space is short.

        Raises:
            PoolClosedError: the pool was closed.
        """
        if self.closing:
            raise PoolClosedError(f"{self.name}: take after close; create a new pool")
        mem, iova = np.empty(n, np.int64), np.empty(n, np.int64)
        count = steps.take(self.state, self.ports, n, mem, iova)
        batch = self._batch(mem[:count], iova[:count])
        self.records.lend(batch)
        return batch

    def receive(self, batch: BufferBatch, lengths: NDArray[np.int64]) -> BufferBatch:
        """The device wrote ``lengths[i]`` bytes (int64[n]) to buffer ``i`` and is done with it.

        Call it before the CPU reads. What comes back is what the stack may read and must give back.
        Its ``iovas`` are NO_IOVA where the device no longer reaches the buffer.
        """
        before, iova = batch.memory, batch.iovas.astype(np.int64)
        mem = before.copy()
        steps.receive(self.state, self.ports, len(batch), mem, iova, lengths)
        self.records.set_received(batch)
        if (mem == before).all():
            return replace(batch, iovas=iova.view(np.uint64))
        self.records.take_back(batch)
        other = replace(
            batch,
            pfns=mem >> PAGE_SHIFT,
            offsets=mem & (PAGE_SIZE - 1),
            iovas=iova.view(np.uint64),
        )
        self.records.lend(other)
        self.records.set_received(other)
        return other

    def give(self, batch: BufferBatch, context: Context) -> None:
        """Takes buffers back, received or unused. Legal after :meth:`close` too.

        Raises:
            NotOutstandingError: a buffer is not out, or is in the batch twice.
            WrongDomainError: a buffer belongs to another domain.
        """
        received = self.records.take_back(batch).astype(np.int64)
        steps.give(self.state, self.ports, len(batch), batch.memory, received, int(context))

    def close(self) -> int:
        """Releases what is not lent; returns pages still in flight. Call again until 0.

        The first call ends :meth:`take`; the device must be done with what was posted, for with
        ``guarantees.unmapped_by_close`` nothing can be received any more. Nothing is waited for:
        who drives the pool decides when to retry (the kernel does once a second).
        """
        return int(steps.close(self.state, self.ports))

    @property
    def counters(self) -> PoolCounters:
        """What was counted so far."""
        return PoolCounters(self.state.c, self.own_counters)

    @property
    def domain(self) -> int:
        """What the buffers' ``domains`` say: the DMA API's domain."""
        return self.dma.domain

    @property
    def truesize(self) -> int:
        """Bytes of memory a received buffer claims to hold, for the socket's accounting."""
        return PAGE_SIZE

    @property
    def closing(self) -> bool:
        """:meth:`close` was called."""
        state: State = self.state
        return bool(state.at[steps.CLOSING])

    @property
    def closed(self) -> bool:
        """Closed, and nothing in flight any more."""
        return self.closing and self.counters.inflight == 0

    @property
    def records(self) -> PageRecords:
        """Who has which buffer."""
        if self._records is None:
            self._records = PageRecords(self.name, self.domain, self.frames, self.slot_bytes)
        return self._records

    def _batch(self, mem: Ints, iova: Ints) -> BufferBatch:
        """Buffers at ``mem``, where the device finds them at ``iova``."""
        whole = BufferBatch.uniform(
            mem >> PAGE_SHIFT,
            iova.view(np.uint64),
            length=self.length,
            offset=0,
            headroom=self.config.headroom,
            domain=self.domain,
        )
        return replace(whole, offsets=mem & (PAGE_SIZE - 1))
