# SPDX-License-Identifier: MIT
"""What a driver is given to reach device and host, and the runner for hosts that never wait."""

from __future__ import annotations

from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from driver.model.errors import WouldBlockError
from pool.interface import DmaApi, PageAllocator

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Coherent:
    """Memory that CPU and device share: ``view`` is uint8[size], its first byte is at ``iova``."""

    view: NDArray[np.uint8]
    iova: int
    pfn: int

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.view)


class Host(Protocol):
    """One device as its driver sees it. Offsets are bytes in BAR0, times ns."""

    @property
    def dma(self) -> DmaApi:
        """The DMA API, in the device's own domain."""
        ...

    @property
    def pages(self) -> PageAllocator:
        """The page allocator."""
        ...

    @property
    def memory(self) -> NDArray[np.uint8]:
        """uint8[bytes]: all memory as the CPU sees it; frame ``p`` starts at ``p * PAGE_SIZE``."""
        ...

    @property
    def now_ns(self) -> int:
        """The clock."""
        ...

    async def mmio_read32(self, offset: int) -> int:
        """A 32-bit register; all ones when the device is gone."""
        ...

    async def mmio_write32(self, offset: int, value: int) -> None:
        """Writes a 32-bit register. Stores to memory made before it are visible to the device."""
        ...

    async def dma_alloc_coherent(self, size: int) -> Coherent:
        """Zeroed memory of at least ``size`` bytes, page aligned.

        Raises:
            NoMemoryError: memory or IOVAs are short.
        """
        ...

    async def dma_free_coherent(self, block: Coherent) -> None:
        """Gives it back."""
        ...

    async def dma_rmb(self) -> None:
        """What is read from memory after this was written no earlier than what was read before."""
        ...

    async def set_bus_master(self, enable: bool) -> None:
        """Allows the device to start DMA and interrupts, or forbids it."""
        ...

    async def wait_interrupt(self) -> int | None:
        """Waits for the next MSI-X vector of the device; None: nothing is to be expected."""
        ...

    async def sleep_ns(self, duration_ns: int) -> None:
        """Lets the device go on for so long."""
        ...


def run_to_completion(coroutine: Coroutine[Any, Any, T]) -> T:
    """Runs ``coroutine`` whose awaits all finish at once; returns its result.

    Raises:
        WouldBlockError: it waited for something; it was closed.
    """
    try:
        coroutine.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    coroutine.close()
    raise WouldBlockError(f"{coroutine!r} waits; run it under a scheduler that can wait")
