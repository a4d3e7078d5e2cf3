# SPDX-License-Identifier: MIT
"""The list of strategies: name, as in scenarios and the kernel driver's ``rx_mode`` -> class."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from pool.errors import UnknownStrategyError
from pool.interface import DmaApi, PageAllocator, PoolConfig
from pool.map_per_packet import MapPerPacket
from pool.page_pool import PagePool
from pool.pool import BufferPool

STRATEGIES: Mapping[str, type[BufferPool]] = MappingProxyType(
    {
        strategy.name: strategy
        for strategy in (
            PagePool,
            MapPerPacket,
        )
    }
)
"""Every strategy by its name."""


def create(
    name: str, allocator: PageAllocator, dma: DmaApi, config: PoolConfig | None = None
) -> BufferPool:
    """A new pool of strategy ``name`` with its default options.

    Raises:
        UnknownStrategyError: there is no such strategy; the text lists those there are.
        MissingPortError: it needs more than this allocator or DMA API offers.
    """
    try:
        strategy = STRATEGIES[name]
    except KeyError:
        known = ", ".join(sorted(STRATEGIES))
        raise UnknownStrategyError(f"no buffer strategy {name!r}; choose one of: {known}") from None
    return strategy(allocator, dma, config or PoolConfig())
