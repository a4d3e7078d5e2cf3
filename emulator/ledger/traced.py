# SPDX-License-Identifier: MIT
"""What a guest's tracer can tell, whatever its kernel calls it."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Traced(StrEnum):
    """What the guest's tracer saw."""

    TABLE = "a page table entry was written; the device knows nothing of it yet"
    CLEARED = "a page table entry was cleared; the device may still use it"
    MAPPED = "dma_map_page() is about to return"
    ALLOCATED = "dma_alloc_coherent() is about to return"
    UNMAPPED = "dma_unmap_page() is about to return"
    FREEING = "dma_free_coherent() begins"
    HEAD = "an skb head is built in a page"
    HOLD = "a page entered a page_pool"
    RELEASE = "a page left a page_pool"
    KEPT = "the sink keeps a received buffer from now on"
    LET_GO = "the sink is about to free a buffer that it kept"


class TraceEvent(NamedTuple):
    """One event, in ns of the guest's clock and bytes.

    iova: of HEAD, KEPT and LET_GO a guest physical address, of HOLD and RELEASE a frame.
    phys: guest physical; of HOLD and RELEASE the pool.
    """

    time_ns: int
    kind: Traced
    iova: int = 0
    size: int = 0
    phys: int = 0
