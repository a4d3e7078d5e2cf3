# SPDX-License-Identifier: MIT
"""Receive: ``dmabed_rx.c``. A poll's worth of completions at a time, none of them trusted.

Each completion is copied once and bounded before use. The ring completes in order, so one whose
id is not that of the next slot means that the two sides no longer agree on who owns what: the
pair is left alone and the device reset. A frame that is only described wrongly is dropped.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from driver.model.skb import SkbBatch
from driver.model.structs import DMABED_RX_BUF_LEN, ETH_HLEN, MAX_SKB_FRAGS, Qp, Rings
from emulator.nic import registers as r
from pool.buffers import BufferBatch, constant
from pool.interface import Context

ERROR = r.DMABED_COMPLETION_STATUS_ERROR
EOP = r.DMABED_COMPLETION_STATUS_EOP
SOP = r.DMABED_COMPLETION_STATUS_SOP
PHASE = r.DMABED_COMPLETION_STATUS_PHASE


async def dmabed_rx_refill(qp: Qp) -> None:
    """Posts a buffer in every free slot, as far as there are buffers."""
    rx = qp.rx
    missing = rx.rings.size - (rx.posted - rx.next)
    if not missing:
        return
    batch = rx.pool.take(missing)
    qp.stats.rx_alloc_fail += missing - len(batch)
    if not len(batch):
        return
    slots = np.arange(rx.posted, rx.posted + len(batch)) & rx.rings.mask
    desc = rx.rings.desc
    desc["addr"][slots] = batch.iovas
    desc["len"][slots] = batch.lengths
    desc["id"][slots] = slots
    rx.buffers.put(rx.posted, batch)
    rx.posted += len(batch)


async def dmabed_rx_ring_doorbell(qp: Qp) -> None:
    """Tells the device of all descriptors posted since it was last told."""
    rx = qp.rx
    if rx.rung == rx.posted:
        return
    rx.rung = rx.posted
    qp.stats.rx_doorbells += 1
    await qp.priv.host.mmio_write32(qp.base + r.DMABED_QP_RX_TAIL, rx.posted & 0xFFFF_FFFF)


async def dmabed_rx_poll(qp: Qp, budget: int) -> int:
    """Consumes up to ``budget`` completions, refills, rings once; returns how many it consumed."""
    if qp.broken:
        return 0
    entries = await _new_completions(qp, budget)
    done = await dmabed_rx_clean(qp, entries) if len(entries) else 0
    if not qp.broken:
        await dmabed_rx_refill(qp)
        await dmabed_rx_ring_doorbell(qp)
    return done


def is_new(rings: Rings, first: int, status: NDArray[np.uint32]) -> NDArray[np.bool_]:
    """bool[n]: entry ``first + i`` of a completion ring was written in this pass over it."""
    passes = np.arange(first, first + len(status)) >> rings.log2
    new: NDArray[np.bool_] = (status & PHASE) != (passes & 1)
    return new


async def _new_completions(qp: Qp, budget: int) -> NDArray[Any]:
    """A copy of the completions not yet seen, at most ``budget``."""
    rx, rings = qp.rx, qp.rx.rings
    limit = min(budget, rx.posted - rx.next)
    slots = np.arange(rx.next, rx.next + limit) & rings.mask
    new = is_new(rings, rx.next, rings.cq["status"][slots])
    count = limit if new.all() else int(new.argmin())
    await qp.priv.host.dma_rmb()  # the other words of an entry, only after its status
    entries: NDArray[Any] = rings.cq[slots[:count]]
    return entries


async def dmabed_rx_clean(qp: Qp, entries: NDArray[Any]) -> int:
    """Consumes ``entries``, copies of the next completions, up to the first with a wrong id."""
    rx = qp.rx
    slots = np.arange(rx.next, rx.next + len(entries)) & rx.rings.mask
    agreed = qp.priv.steps.agreed(entries, slots)
    if not agreed.all():
        entries = entries[: int(agreed.argmin())]
        qp.stats.rx_bad += 1
        dmabed_qp_broken(qp)
    done = len(entries)
    lengths = np.minimum(entries["len"], DMABED_RX_BUF_LEN).astype(np.int64)
    buffers = await qp.priv.steps.received(qp, rx.buffers.get(rx.next, done), lengths)
    rx.next += done
    qp.stats.rx_bad += int(np.count_nonzero(~_length_ok(entries)))
    if len(rx.open_entries):
        buffers = BufferBatch.concat((rx.open_buffers, buffers))
        entries = np.concatenate((rx.open_entries, entries))
    if len(entries):
        await _dmabed_rx_frames(qp, buffers, entries)
    return done


def dmabed_qp_broken(qp: Qp) -> None:
    """The device contradicted itself: nothing of the pair is believed until a reset."""
    qp.broken = True
    qp.priv.reset_pending = True


def _length_ok(entries: NDArray[Any]) -> NDArray[np.bool_]:
    lengths = entries["len"]
    ok: NDArray[np.bool_] = (lengths > 0) & (lengths <= DMABED_RX_BUF_LEN)
    return ok


async def _dmabed_rx_frames(qp: Qp, buffers: BufferBatch, entries: NDArray[Any]) -> None:
    """Makes frames of pieces: delivers the good, drops the bad, keeps one that has no end yet."""
    rx, status = qp.rx, entries["status"]
    lengths = entries["len"].astype(np.int64)
    if _all_whole(entries):
        ones = constant(1, len(entries))
        skbs = SkbBatch(buffers, lengths, ones, rx.pool, qp.index)
        return await _deliver(qp, skbs, np.ones(len(entries), np.bool_))
    eop = (status & EOP) > 0
    begins = (status & SOP) > 0
    begins[0] = True
    begins[1:] |= eop[:-1]
    first = np.flatnonzero(begins)
    counts = np.diff(first, append=len(entries))
    good = _good_frames(entries, lengths, first, counts)
    unfinished = not eop[-1] and bool(good[-1])
    cut = int(first[-1]) if unfinished else len(entries)
    rx.open_buffers, rx.open_entries = buffers[cut:], entries[cut:]
    frames = len(first) - unfinished
    good = good[:frames] & eop[first[:frames] + counts[:frames] - 1]
    skbs = SkbBatch(buffers[:cut], lengths[:cut], counts[:frames], rx.pool, qp.index)
    return await _deliver(qp, skbs, good)


def _all_whole(entries: NDArray[Any]) -> bool:
    """Whether every piece is a frame, and a good one: the case worth being fast for."""
    status, lengths = entries["status"], entries["len"]
    whole = (status & (SOP | EOP | ERROR)) == SOP | EOP
    whole &= (lengths == entries["frame_len"]) & (lengths >= ETH_HLEN)
    whole &= lengths <= DMABED_RX_BUF_LEN
    return bool(whole.all())


def _good_frames(
    entries: NDArray[Any],
    lengths: NDArray[np.int64],
    first: NDArray[np.intp],
    counts: NDArray[np.intp],
) -> NDArray[np.bool_]:
    """bool[frames]: the frame of ``counts[i]`` pieces from ``first[i]`` on can be used.

    The last one may lack its end; then it is judged by what there is.
    """
    status = entries["status"]
    usable = _length_ok(entries) & ((status & ERROR) == 0)
    total = np.add.reduceat(lengths, first)
    last = first + counts - 1
    claimed = entries["frame_len"][last]
    ended = (status[last] & EOP) > 0
    good: NDArray[np.bool_] = np.logical_and.reduceat(usable, first)
    good &= ((status[first] & SOP) > 0) & (counts <= 1 + MAX_SKB_FRAGS)
    good &= (lengths[first] >= ETH_HLEN) & np.where(ended, claimed == total, claimed > total)
    return good


async def _deliver(qp: Qp, skbs: SkbBatch, good: NDArray[np.bool_]) -> None:
    """Up to the stack with the good ones."""
    if not good.all():
        qp.stats.rx_dropped += int(np.count_nonzero(~good))
        skbs.select(~good).free(Context.NAPI)
        skbs = skbs.select(good)
    if not len(skbs):
        return
    qp.stats.rx_packets += len(skbs)
    qp.stats.rx_bytes += int(skbs.lengths.sum())
    await qp.priv.stack.receive(qp.priv, qp.index, skbs)
    await qp.priv.steps.delivered(qp, skbs)


async def dmabed_rx_drain(qp: Qp) -> None:
    """Gives back every buffer the stack did not get; the device has stopped, NAPI is off."""
    rx = qp.rx
    rx.pool.give(rx.open_buffers, Context.TEARDOWN)
    rx.open_buffers, rx.open_entries = BufferBatch.empty(), rx.open_entries[:0]
    unused = rx.buffers.get(rx.next, rx.posted - rx.next)
    rx.pool.give(unused, Context.TEARDOWN)
    rx.next = rx.posted
    await qp.priv.steps.drained(qp, unused)


async def dmabed_rx_rewind(qp: Qp) -> None:
    """Makes the side ready to be enabled again: as new, every slot filled."""
    await dmabed_rx_drain(qp)
    rx = qp.rx
    rx.rings.cq[:] = 0
    rx.next = rx.posted = rx.rung = 0
    await dmabed_rx_refill(qp)


async def dmabed_rx_teardown(qp: Qp) -> None:
    """Drains and closes the pool; if pages are still out, it is kept for the retry worker."""
    await dmabed_rx_drain(qp)
    pool, stats = qp.rx.pool, qp.stats
    if qp.priv.steps.close(qp):
        qp.priv.dying.append(pool)
    stats.rx_maps += pool.counters.maps
    stats.rx_unmaps += pool.counters.unmaps
