# SPDX-License-Identifier: MIT
"""The list of strategies: name, as in scenarios and the kernel driver's ``rx_mode`` -> class."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from pool.array_cache import ArrayCache
from pool.bulk_map import BulkMap
from pool.contiguous_iova import ContiguousIova
from pool.direct_window import DirectWindowPool
from pool.dma_pool import DmaPool
from pool.errors import UnknownStrategyError
from pool.half_page_flip import HalfPageFlip
from pool.interface import DmaApi, PageAllocator, PoolConfig
from pool.map_per_packet import MapPerPacket
from pool.mapping_cache import MappingCachePool
from pool.mempool import Mempool
from pool.order0_recycle import Order0Recycle
from pool.order_fallback import OrderFallback
from pool.page_pool import PagePool
from pool.pcp_constructor import PcpConstructor
from pool.pool import BufferPool
from pool.scatterlist_cache import ScatterlistCache
from pool.shadow_copy import ShadowCopy
from pool.zero_copy_domain import ZeroCopyDomain

STRATEGIES: Mapping[str, type[BufferPool]] = MappingProxyType(
    {
        strategy.name: strategy
        for strategy in (
            PagePool,
            MapPerPacket,
            ArrayCache,
            BulkMap,
            ContiguousIova,
            DirectWindowPool,
            DmaPool,
            HalfPageFlip,
            MappingCachePool,
            Mempool,
            Order0Recycle,
            OrderFallback,
            PcpConstructor,
            ScatterlistCache,
            ShadowCopy,
            ZeroCopyDomain,
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
