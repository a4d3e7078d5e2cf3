# SPDX-License-Identifier: MIT
"""``bulk_map``: a map and an unmap for every packet, sixteen of them in one call.

Whose: Jesper Dangaard Brouer's bulk calls (thread row T10), applied to what a packet without a pool
pays for: allocate, map, unmap and free many by one call each. The kernel driver has it as an
``rx_mode`` (``driver/linux/dmabed_rx_bulk.c``).

How: sixteen pages are allocated by one bulk call and mapped as one scatterlist (``dma_map_sg``):
under an IOMMU one range of addresses and, when its last buffer is filled, one unmap and one
invalidation; without one the list is gone through page by page. That is what
:mod:`pool.contiguous_iova` does with 64 pages of a descriptor, so the kernels are the same.

Where it breaks: a group cannot be unmapped in part. Packets of a group that a poll leaves
incomplete are read while they are mapped (``read_while_mapped``) and cost two atomics more, for the
driver must keep them from being freed; the rest costs a sixteenth of a map each, which is still
more than a pool's nothing.
"""

from __future__ import annotations

from typing import ClassVar

from pool.contiguous_iova import ContiguousIova

GROUP = 16
"""DMABED_GROUP in the kernel driver."""


class BulkMap(ContiguousIova):
    """Groups of one queue; counters as :class:`pool.contiguous_iova.ContiguousIova` has them."""

    name: ClassVar[str] = "bulk_map"
    descriptor_pages: ClassVar[int] = GROUP
    must_join: ClassVar[bool] = False
