# SPDX-License-Identifier: MIT
"""The one interface of all buffer strategies, and the two ports a strategy stands on.

Life of a buffer: :meth:`BufferPool.take` it, post it to the device, then either the device filled
it (:meth:`BufferPool.receive` makes it the CPU's; the stack reads it and it is given back late,
maybe on another CPU) or the ring was stopped and it comes back unused; both end in
:meth:`BufferPool.give`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from pool.buffers import NO_IOVA, PAGE_SIZE, BufferBatch, IovaArray, PfnArray
from pool.errors import PoolClosedError, PoolError
from pool.guarantees import Guarantees


class Context(Enum):
    """Where buffers are given back: it decides which store they may go to without an atomic."""

    NAPI = "in the NAPI poll of the queue that took them, same CPU"
    REMOTE = "on another CPU, or outside the poll"
    TEARDOWN = "by the driver while it takes its ring down"


class Direction(Enum):
    """Who writes, as in the kernel's enum dma_data_direction."""

    FROM_DEVICE = "the device writes"
    TO_DEVICE = "the device reads"
    BIDIRECTIONAL = "the device reads and writes"


class PageAllocator(Protocol):
    """The page allocator of the host."""

    def alloc_pages(self, count: int, order: int = 0) -> PfnArray:
        """int64[k]: first frames of ``k <= count`` blocks of ``2**order`` pages; fewer if short."""
        ...

    def free_pages(self, pfns: PfnArray, order: int = 0) -> None:
        """Gives back blocks of ``2**order`` pages by their first frames."""
        ...


class DmaApi(Protocol):
    """The DMA API for one device: its mappings live in one domain."""

    @property
    def domain(self) -> int:
        """Id of the device's domain."""
        ...

    def map_pages(self, pfns: PfnArray, direction: Direction, order: int = 0) -> IovaArray:
        """uint64[n]: IOVA of each block of ``2**order`` pages; NO_IOVA where it was refused."""
        ...

    def unmap_pages(self, iovas: IovaArray, order: int = 0) -> None:
        """Removes the mappings that :meth:`map_pages` returned."""
        ...

    def sync_for_device(self, iovas: IovaArray, lengths: NDArray[np.int64]) -> None:
        """Hands ``lengths[i]`` bytes at ``iovas[i]`` from the CPU to the device (cache, bounce)."""
        ...

    def sync_for_cpu(self, iovas: IovaArray, lengths: NDArray[np.int64]) -> None:
        """The other way."""
        ...


@dataclass(slots=True)
class PoolCounters:
    """Counts since the pool was made. Exact; prices are somebody else's business."""

    taken: int = 0
    """Buffers handed out."""
    given: int = 0
    """Buffers given back."""
    allocations: int = 0
    """Pages that came from the page allocator and entered the pool (the kernel's hold count)."""
    released: int = 0
    """Pages that left the pool to the page allocator (the kernel's release count)."""
    maps: int = 0
    """Successful mappings: IOVA ranges that came to life."""
    unmaps: int = 0
    """IOVA ranges that ended. A strict IOMMU owes one invalidation for each."""
    mapped_pages: int = 0
    """Page-table entries written by those maps."""
    unmapped_pages: int = 0
    """Page-table entries cleared by those unmaps: what the invalidations cover."""
    map_errors: int = 0
    """Refused mappings; their pages were freed at once."""
    recycled_cache: int = 0
    """Buffers given back to the store of the same CPU."""
    recycled_ring: int = 0
    """Buffers given back to the store that other CPUs reach."""
    ring_full: int = 0
    """Times that store had no room."""
    atomics: int = 0
    """Atomic read-modify-writes, a lock counted as one."""
    bulk_calls: int = 0
    """Calls of the page allocator that ask for more than one page."""
    single_calls: int = 0
    """Calls of the page allocator for one page."""
    syncs_for_device: int = 0
    """Buffers handed to the device by a sync."""
    syncs_for_cpu: int = 0
    """Buffers handed to the CPU by a sync."""
    copies: int = 0
    """Buffers whose payload was copied."""

    @property
    def inflight(self) -> int:
        """Pages that entered the pool and did not leave it: lent, cached or in the ring."""
        return self.allocations - self.released

    @property
    def outstanding(self) -> int:
        """Buffers handed out and not yet given back."""
        return self.taken - self.given


@dataclass(frozen=True, slots=True)
class PoolConfig:
    """What a driver tells its pool.

    pool_size: entries of the recycle store; headroom: bytes left free before the payload;
    buffer_bytes: bytes the device may write, behind the headroom; direction: of the mappings;
    sync: whether buffers are synced for the device (PP_FLAG_DMA_SYNC_DEV).

    Raises:
        PoolError: a number is out of range.
    """

    pool_size: int = 1024
    headroom: int = 0
    buffer_bytes: int = 2048
    direction: Direction = Direction.FROM_DEVICE
    sync: bool = True

    def __post_init__(self) -> None:
        if self.pool_size < 1:
            raise PoolError(f"pool_size {self.pool_size}: give at least 1")
        if self.headroom < 0 or self.buffer_bytes < 1:
            raise PoolError(
                f"headroom {self.headroom}, buffer_bytes {self.buffer_bytes}: too small"
            )
        if self.headroom + self.buffer_bytes > PAGE_SIZE:
            raise PoolError(
                f"headroom {self.headroom} + buffer_bytes {self.buffer_bytes} exceed a page of "
                f"{PAGE_SIZE} bytes: shrink one"
            )
        if self.direction is Direction.TO_DEVICE:
            raise PoolError("receive buffers are written by the device: not TO_DEVICE")


class BufferPool(ABC):
    """One receive queue's supply of buffers."""

    name: ClassVar[str]
    """As in the registry, in scenarios and in the kernel driver's ``rx_mode``."""
    guarantees: Guarantees
    """What the strategy promises about the device's reach; options may change an instance's."""

    def __init__(self, allocator: PageAllocator, dma: DmaApi, config: PoolConfig) -> None:
        self._allocator, self._dma, self._config = allocator, dma, config
        self._closing = False
        self.counters = PoolCounters()

    @abstractmethod
    def take(self, n: int) -> BufferBatch:
        """Up to ``n`` mapped buffers for the device; fewer when memory or address space is short.

        Raises:
            PoolClosedError: the pool was closed.
        """

    @abstractmethod
    def receive(self, batch: BufferBatch, lengths: NDArray[np.int64]) -> BufferBatch:
        """The device wrote ``lengths[i]`` bytes (int64[n]) to buffer ``i`` and is done with it.

        Call it before the CPU reads. What comes back is what the stack may read and must give back.
        Its ``iovas`` are NO_IOVA where the device no longer reaches the buffer.
        """

    @abstractmethod
    def give(self, batch: BufferBatch, context: Context) -> None:
        """Takes buffers back, received or unused. Legal after :meth:`close` too.

        Raises:
            NotOutstandingError: a buffer is not out, or is in the batch twice.
            WrongDomainError: a buffer belongs to another domain.
        """

    @abstractmethod
    def close(self) -> int:
        """Releases what is not lent; returns pages still in flight. Call again until 0.

        The first call ends :meth:`take`; the device must be done with what was posted, for with
        ``guarantees.unmapped_by_close`` nothing can be received any more. Nothing is waited for:
        who drives the pool decides when to retry (the kernel does once a second).
        """

    @property
    def domain(self) -> int:
        """What the buffers' ``domains`` say: the DMA API's domain."""
        return self._dma.domain

    @property
    def truesize(self) -> int:
        """Bytes of memory a received buffer claims to hold, for the socket's accounting."""
        return PAGE_SIZE

    @property
    def closed(self) -> bool:
        """Closed, and nothing in flight any more."""
        return self._closing and self.counters.inflight == 0

    def _check_open(self) -> None:
        if self._closing:
            raise PoolClosedError(f"{self.name}: take after close; create a new pool")

    def _map(self, pfns: PfnArray, order: int = 0) -> tuple[PfnArray, IovaArray]:
        """Maps blocks; those refused are freed at once and left out of both results."""
        iovas = self._dma.map_pages(pfns, self._config.direction, order)
        mapped = iovas != np.uint64(NO_IOVA)
        refused = len(pfns) - int(np.count_nonzero(mapped))
        self.counters.maps += len(pfns) - refused
        self.counters.mapped_pages += (len(pfns) - refused) << order
        if not refused:
            return pfns, iovas
        self.counters.map_errors += refused
        self._allocator.free_pages(pfns[~mapped], order)
        return pfns[mapped], iovas[mapped]

    def _unmap_iovas(self, iovas: IovaArray, order: int = 0) -> None:
        """Ends mappings of blocks, each with an invalidation of its own."""
        if len(iovas):
            self._dma.unmap_pages(iovas, order)
            self.counters.unmaps += len(iovas)
            self.counters.unmapped_pages += len(iovas) << order

    def _batch(self, pfns: PfnArray, page_iovas: IovaArray) -> BufferBatch:
        """Buffers behind the configured headroom of whole pages."""
        config = self._config
        return BufferBatch.uniform(
            pfns,
            page_iovas + np.uint64(config.headroom),
            length=config.buffer_bytes,
            offset=config.headroom,
            headroom=config.headroom,
            domain=self.domain,
        )
