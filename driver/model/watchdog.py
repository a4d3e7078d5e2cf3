# SPDX-License-Identifier: MIT
"""The driver's timer: ``dmabed_watchdog.c``. Finds what a well-behaved device never lets happen.

Every tick looks at each queue pair: does the ring still run, did completions arrive that nobody
was told of, has the device used descriptors without completing them, has it stopped sending. What
a wait may explain is looked at again one tick later. A pair that has been quiet demands an
interrupt by an ARM that cannot match, so that doorbells, device and vector are tried end to end.
"""

from __future__ import annotations

from driver.model.host import Host
from driver.model.queue import IDLE_POLLS_MAX, dmabed_arm, dmabed_napi_schedule
from driver.model.rx import is_new
from driver.model.structs import Priv, Qp, Rings, Watch
from emulator.nic import registers as r

TICK_NS = 250_000_000
"""Between two looks."""
PATIENCE = 2
"""Ticks that a contradiction has to last before the device is reset."""
TX_PATIENCE = 8
"""Ticks that a transmit ring may stand still while the link is up."""
PROBE_AFTER = 4
"""Quiet ticks after which an interrupt is demanded."""
ALL_ONES = 0xFFFF_FFFF
RUNNING = r.DMABED_QP_RX_CTRL_RUNNING


async def dmabed_watchdog_tick(priv: Priv) -> bool:
    """Looks at all queue pairs if a tick is due; True if the device has to be reset."""
    now_ns = priv.host.now_ns
    if not priv.set or now_ns - priv.last_tick_ns < TICK_NS:
        return False
    priv.last_tick_ns = now_ns
    found = [await _look(qp) for qp in priv.set if not qp.broken]
    causes = [cause for cause in found if cause]
    priv.suspicions += causes
    return bool(causes)


async def _look(qp: Qp) -> str:
    """One queue pair; returns why the device has to be reset, or nothing."""
    watch, moved = qp.watch, _moved(qp)
    if moved:
        watch.quiet = watch.odd = watch.still = watch.probes = 0
    else:
        watch.quiet += 1
    pending = not moved and _pending(qp)
    if pending and watch.pending:
        qp.stats.rescues += 1
        await dmabed_napi_schedule(qp)
    watch.pending = pending
    if pending:
        return ""
    cause = await _contradiction(qp, moved)
    watch.odd = watch.odd + 1 if cause else 0
    if watch.odd >= PATIENCE:
        return f"queue {qp.index}: {cause}"
    if await _transmits_nothing(qp):
        return f"queue {qp.index}: transmits nothing"
    return await _probe(qp)


def _moved(qp: Qp) -> bool:
    """Whether either side made progress since the last look."""
    now = (qp.rx.next, qp.tx.clean)
    moved, qp.watch.seen = now != qp.watch.seen, now
    return moved


def _pending(qp: Qp) -> bool:
    """Whether completions lie there that nobody polls for."""
    return _is_new(qp.rx.rings, qp.rx.next) or _is_new(qp.tx.rings, qp.tx.seen)


def _is_new(rings: Rings, index: int) -> bool:
    slot = index & rings.mask
    return bool(is_new(rings, index, rings.cq["status"][slot : slot + 1])[0])


async def _contradiction(qp: Qp, moved: bool) -> str:
    """What the registers say that cannot be, if it lasts."""
    host, base = qp.priv.host, qp.base
    for name, control in (("rx", r.DMABED_QP_RX_CTRL), ("tx", r.DMABED_QP_TX_CTRL)):
        value = await host.mmio_read32(base + control)
        if value == ALL_ONES:
            return "the device does not answer"
        if not value & RUNNING:
            return f"the {name} ring has stopped"
    if moved:
        return ""
    heads = await _heads(host, base)
    if heads[0] != qp.rx.next & ALL_ONES:
        return f"{heads[0]} rx descriptors used, {qp.rx.next & ALL_ONES} completed"
    if heads[1] != qp.tx.clean & ALL_ONES:
        return f"{heads[1]} tx descriptors used, {qp.tx.clean & ALL_ONES} completed"
    return ""


async def _heads(host: Host, base: int) -> tuple[int, int]:
    rx = await host.mmio_read32(base + r.DMABED_QP_RX_HEAD)
    return rx, await host.mmio_read32(base + r.DMABED_QP_TX_HEAD)


async def _transmits_nothing(qp: Qp) -> bool:
    """Rings again what the device may have missed; True if it sends nothing for too long."""
    host, watch = qp.priv.host, qp.watch
    await host.mmio_write32(qp.base + r.DMABED_QP_RX_TAIL, qp.rx.rung & ALL_ONES)
    if qp.tx.prod == qp.tx.clean or not qp.priv.carrier:
        watch.still = 0
        return False
    await host.mmio_write32(qp.base + r.DMABED_QP_TX_TAIL, qp.tx.prod & ALL_ONES)
    watch.still += 1
    return watch.still >= TX_PATIENCE


async def _probe(qp: Qp) -> str:
    """Demands an interrupt of a quiet pair; says so if the last one demanded did not come."""
    watch = qp.watch
    if qp.idle_polls >= IDLE_POLLS_MAX:
        qp.idle_polls = 0
        await dmabed_arm(qp)
    if watch.quiet < PROBE_AFTER or watch.quiet % PROBE_AFTER:
        return ""
    if watch.interrupts == qp.interrupts:
        watch.probes += 1
    else:
        watch.probes = 0
    watch.interrupts = qp.interrupts
    if watch.probes > PATIENCE:
        watch.probes = 0
        return f"queue {qp.index}: interrupts do not come"
    wrong = ~(qp.rx.next & 0xFFFF | (qp.tx.seen & 0xFFFF) << 16) & ALL_ONES
    await qp.priv.host.mmio_write32(qp.base + r.DMABED_QP_ARM, wrong)
    return ""


def dmabed_watchdog_start(priv: Priv, pairs: list[Qp]) -> None:
    """The pairs go into service: nothing is suspected yet."""
    priv.last_tick_ns = priv.host.now_ns
    for qp in pairs:
        qp.watch = Watch(interrupts=qp.interrupts - 1)
