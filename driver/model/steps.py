# SPDX-License-Identifier: MIT
"""Steps of the driver that a planted bug does wrong: here they are done right.

The driver calls them on ``priv.steps``; :mod:`driver.model.plants` overrides one each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from driver.model.host import Coherent, Host
from driver.model.spans import unmap_spans
from pool.buffers import BufferBatch
from pool.interface import DmaApi

if TYPE_CHECKING:
    from driver.model.skb import SkbBatch
    from driver.model.structs import Priv, Qp


class Steps:
    """The steps of a sound driver."""

    def pool_dma(self, host: Host) -> DmaApi:
        """Where receive buffers are mapped: in the device's own domain, failures told."""
        return host.dma

    async def before_down(self, priv: Priv, pairs: list[Qp]) -> None:
        """Before the rings are stopped: nothing may be given back yet."""

    async def received(
        self, qp: Qp, buffers: BufferBatch, lengths: NDArray[np.int64]
    ) -> BufferBatch:
        """Makes filled buffers the CPU's, before anybody looks into them."""
        return qp.rx.pool.receive(buffers, lengths)

    async def delivered(self, qp: Qp, skbs: SkbBatch) -> None:
        """The stack has the frames: their buffers are none of the driver's business now."""

    def agreed(self, entries: NDArray[Any], slots: NDArray[np.int64]) -> NDArray[np.bool_]:
        """bool[n]: a completion is for the buffer that is next in the ring."""
        agreed: NDArray[np.bool_] = entries["id"] == slots
        return agreed

    def undo_maps(self, priv: Priv, iovas: NDArray[np.uint64], orders: NDArray[np.int64]) -> int:
        """Unmaps what was mapped for a frame that cannot be sent; returns how many."""
        unmap_spans(priv.host.dma, iovas, orders)
        return len(iovas)

    async def free_rings(self, priv: Priv, block: Coherent) -> None:
        """Gives ring memory back, all of it."""
        await priv.host.dma_free_coherent(block)

    async def drained(self, qp: Qp, buffers: BufferBatch) -> None:
        """Buffers went back to their pool, which unmaps what has to be."""

    async def reload_failed(self, priv: Priv) -> None:
        """A new set did not fit; the old one runs on, untouched."""

    async def master_off(self, priv: Priv) -> None:
        """The last thing but one that the device hears of the driver."""
        await priv.host.set_bus_master(False)

    def close(self, qp: Qp) -> int:
        """Closes the pool; returns the pages that are still out."""
        return qp.rx.pool.close()
