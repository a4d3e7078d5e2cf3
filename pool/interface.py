# SPDX-License-Identifier: MIT
"""What a driver tells and asks of its buffer supply, and the two ports that supply stands on.

Life of a buffer: ``take`` it, post it to the device, then either the device filled it (``receive``
makes it the CPU's; the stack reads it and it is given back late, maybe on another CPU) or the ring
was stopped and it comes back unused; both end in ``give``. See :class:`pool.pool.BufferPool`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pool.buffers import PAGE_SIZE, IovaArray, PfnArray
from pool.errors import PoolError

MAX_REFERENCES = 65535
"""That a driver takes of a page at a time: USHRT_MAX, as igb, ixgbe and i40e do since 2017."""


class Context(IntEnum):
    """Where buffers are given back: it decides which store they may go to without an atomic."""

    NAPI = 0
    """In the NAPI poll of the queue that took them, same CPU."""
    REMOTE = 1
    """On another CPU, or outside the poll."""
    TEARDOWN = 2
    """By the driver while it takes its ring down."""


class Direction(Enum):
    """Who writes, as in the kernel's enum dma_data_direction."""

    FROM_DEVICE = "the device writes"
    TO_DEVICE = "the device reads"
    BIDIRECTIONAL = "the device reads and writes"


class PageAllocator(Protocol):
    """The page allocator of the host."""

    @property
    def span(self) -> tuple[int, int]:
        """First frame of memory, and how many frames from there on."""
        ...

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


@dataclass(frozen=True, slots=True)
class PoolConfig:
    """What a driver tells its pool.

    pool_size: entries of the recycle store; headroom: bytes left free before the payload;
    buffer_bytes: bytes the device may write, behind the headroom; direction: of the mappings;
    sync: whether buffers are synced for the device (PP_FLAG_DMA_SYNC_DEV); references: to a page,
    taken by one atomic where a page is shared by packets (``half_page_flip``).

    Raises:
        PoolError: a number is out of range.
    """

    pool_size: int = 1024
    headroom: int = 0
    buffer_bytes: int = 2048
    direction: Direction = Direction.FROM_DEVICE
    sync: bool = True
    references: int = MAX_REFERENCES

    def __post_init__(self) -> None:
        if self.pool_size < 1:
            raise PoolError(f"pool_size {self.pool_size}: give at least 1")
        if not 1 <= self.references <= MAX_REFERENCES:
            raise PoolError(f"references {self.references}: from 1 to {MAX_REFERENCES}")
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
