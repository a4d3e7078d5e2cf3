# SPDX-License-Identifier: MIT
"""Transmit: ``dmabed_tx.c``. Every piece is mapped when queued and unmapped when completed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from driver.model.rx import ERROR, dmabed_qp_broken, is_new
from driver.model.skb import SkbBatch
from driver.model.spans import map_spans, orders_of, unmap_spans
from driver.model.structs import ETH_HLEN, Priv, Qp, Tx
from emulator.nic import registers as r
from pool.buffers import NO_IOVA
from pool.interface import Context, Direction

UNMAPPED = np.uint64(NO_IOVA)
EOP = r.DMABED_TX_DESC_FLAGS_EOP


async def dmabed_start_xmit(priv: Priv, queue: int, skbs: SkbBatch) -> SkbBatch:
    """Queues frames; returns those for which there was no room: they stay the caller's.

    All others are the driver's. The device is told once. After a non-empty result the stack's
    ``wake`` is called when there is room.
    """
    if not 0 <= queue < len(priv.set) or not priv.carrier:
        return _drop(priv, max(0, min(queue, priv.max_queues - 1)), skbs)
    qp = priv.set[queue]
    skbs = _only_sendable(qp, skbs)
    room = qp.tx.rings.size - (qp.tx.prod - qp.tx.clean)
    fits = int(np.searchsorted(np.cumsum(skbs.counts), room, side="right"))
    now, later = skbs.split(fits)
    if len(later):
        qp.tx.stopped = True
        qp.stats.tx_stops += 1
    now, iovas = dmabed_tx_map(qp, now)
    if len(now):
        _queue(qp.tx, now, iovas)
        await priv.host.mmio_write32(qp.base + r.DMABED_QP_TX_TAIL, qp.tx.prod & 0xFFFF_FFFF)
    return later


def _drop(priv: Priv, queue: int, skbs: SkbBatch) -> SkbBatch:
    """Frees frames that cannot be sent; returns none."""
    priv.stats[queue].tx_dropped += len(skbs)
    skbs.free(Context.REMOTE)
    return skbs.select(slice(0, 0))


def _only_sendable(qp: Qp, skbs: SkbBatch) -> SkbBatch:
    """Drops frames that no ring of this device can carry."""
    lengths = skbs.frame_lengths
    bad = (lengths < ETH_HLEN) | (lengths > qp.priv.frame_cap)
    bad |= skbs.counts > qp.tx.rings.size
    if not bad.any():
        return skbs
    _drop(qp.priv, qp.index, skbs.select(bad))
    return skbs.select(~bad)


def dmabed_tx_map(qp: Qp, skbs: SkbBatch) -> tuple[SkbBatch, NDArray[np.uint64]]:
    """Maps every piece; drops frames of which one could not be mapped."""
    orders = orders_of(skbs.buffers, skbs.lengths)
    iovas = map_spans(qp.priv.host.dma, skbs.buffers.pfns, orders, Direction.TO_DEVICE)
    refused = iovas == UNMAPPED
    qp.stats.tx_maps += len(iovas) - int(np.count_nonzero(refused))
    if not refused.any():
        return skbs, iovas
    bad = np.logical_or.reduceat(refused, skbs.starts)
    undo = np.repeat(bad, skbs.counts) & ~refused
    qp.stats.tx_unmaps += qp.priv.steps.undo_maps(qp.priv, iovas[undo], orders[undo])
    keep = np.repeat(~bad, skbs.counts)
    _drop(qp.priv, qp.index, skbs.select(bad))
    return skbs.select(~bad), iovas[keep]


def _queue(tx: Tx, skbs: SkbBatch, iovas: NDArray[np.uint64]) -> None:
    """Fills descriptors for mapped frames for which there is room."""
    pieces, mask = len(iovas), tx.rings.mask
    slots = np.arange(tx.prod, tx.prod + pieces) & mask
    flags = np.zeros(pieces, np.uint32)
    flags[np.cumsum(skbs.counts) - 1] = EOP
    desc = tx.rings.desc
    desc["addr"][slots] = iovas + skbs.buffers.offsets.astype(np.uint64)
    desc["len"][slots] = skbs.lengths
    desc["id"][slots] = slots
    desc["flags"][slots] = flags
    tx.buffers.put(tx.prod, skbs.buffers)
    tx.iova[slots], tx.length[slots] = iovas, skbs.lengths
    tx.order[slots] = orders_of(skbs.buffers, skbs.lengths)
    tx.owner[slots] = _owner_number(tx, skbs)
    tx.count[np.arange(tx.frames, tx.frames + len(skbs)) & mask] = skbs.counts
    tx.prod += pieces
    tx.frames += len(skbs)


def _owner_number(tx: Tx, skbs: SkbBatch) -> int:
    """Index of the frames' owner in ``tx.owners``."""
    for number, owner in enumerate(tx.owners):
        if owner is skbs.owner:
            return number
    tx.owners.append(skbs.owner)
    return len(tx.owners) - 1


async def dmabed_tx_poll(qp: Qp) -> int:
    """Reaps all completed frames, wakes the stack if it was stopped; returns how many."""
    done = 0
    while not qp.broken:
        entries = await _new_completions(qp)
        if not len(entries):
            break
        done += dmabed_tx_reap(qp, entries)
    if qp.tx.stopped and done:
        qp.tx.stopped = False
        await qp.priv.stack.wake(qp.priv, qp.index)
    return done


async def _new_completions(qp: Qp) -> NDArray[Any]:
    """A copy of the completions not yet seen, up to the ring's end.

    One more than there are frames is looked at: one that answers to nothing shows.
    """
    tx, rings = qp.tx, qp.tx.rings
    slot = tx.seen & rings.mask
    window = rings.cq[slot : slot + tx.frames - tx.seen + 1]
    new = is_new(rings, tx.seen, window["status"])
    count = len(new) if new.all() else int(new.argmin())
    await qp.priv.host.dma_rmb()  # the other words of an entry, only after its status
    entries: NDArray[Any] = window[:count].copy()
    return entries


def dmabed_tx_reap(qp: Qp, entries: NDArray[Any]) -> int:
    """Unmaps and frees the frames of ``entries`` (in ring order) until one makes no sense."""
    tx = qp.tx
    frames = np.arange(tx.seen, tx.seen + len(entries))
    counts = tx.count[frames & tx.rings.mask]
    ends = tx.clean + np.cumsum(counts)
    ok = (frames < tx.frames) & (entries["id"] == ((ends - 1) & tx.rings.mask))
    ok &= entries["len"] == counts
    sane = len(ok) if ok.all() else int(ok.argmin())
    if sane < len(entries):
        qp.stats.tx_bad += 1
        dmabed_qp_broken(qp)
    failed = int(np.count_nonzero(entries["status"][:sane] & ERROR))
    qp.stats.tx_errors += failed
    qp.stats.tx_packets += sane - failed
    tx.seen += sane
    if sane:
        qp.stats.tx_bytes += dmabed_tx_unmap(qp, int(ends[sane - 1]) - tx.clean, Context.NAPI)
    return sane


def dmabed_tx_unmap(qp: Qp, pieces: int, context: Context) -> int:
    """Unmaps the oldest ``pieces`` and gives their buffers back; returns their bytes."""
    tx = qp.tx
    slots = np.arange(tx.clean, tx.clean + pieces) & tx.rings.mask
    unmap_spans(qp.priv.host.dma, tx.iova[slots], tx.order[slots])
    qp.stats.tx_unmaps += pieces
    tx.iova[slots] = UNMAPPED
    buffers, owners = tx.buffers.get(tx.clean, pieces), tx.owner[slots]
    for number in np.unique(owners).tolist():
        owner = tx.owners[number]
        local = owner is qp.rx.pool
        where = context if local or context is Context.TEARDOWN else Context.REMOTE
        owner.give(buffers[owners == number], where)
    tx.clean += pieces
    return int(tx.length[slots].sum())


def dmabed_tx_drain(qp: Qp) -> None:
    """Unmaps and frees what was not sent; the device has stopped, NAPI is off."""
    tx = qp.tx
    qp.stats.tx_dropped += tx.frames - tx.seen
    if tx.prod != tx.clean:
        dmabed_tx_unmap(qp, tx.prod - tx.clean, Context.TEARDOWN)
    tx.rings.cq[:] = 0
    tx.prod = tx.clean = tx.seen = tx.frames = 0
    tx.owners.clear()
    tx.stopped = False
