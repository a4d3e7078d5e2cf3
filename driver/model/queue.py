# SPDX-License-Identifier: MIT
"""The memory of queue pairs and their poll: ``dmabed_queue.c``.

A set is allocated in full, receive buffers included, before anything that runs is touched.
"""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from driver.model.device import field_prep
from driver.model.errors import NoMemoryError
from driver.model.host import Coherent, Host
from driver.model.rx import dmabed_rx_poll, dmabed_rx_refill, dmabed_rx_rewind, dmabed_rx_teardown
from driver.model.structs import (
    DMABED_RX_BUF_LEN,
    DMABED_RX_HEADROOM,
    NAPI_POLL_WEIGHT,
    BufferRing,
    Config,
    Priv,
    Qp,
    Rings,
    Rx,
    Tx,
)
from driver.model.tx import dmabed_tx_drain, dmabed_tx_poll
from emulator.nic import registers as r
from emulator.nic.descriptors import COMPLETION, RX_DESC, TX_DESC, Layout
from pool.interface import PoolConfig
from pool.registry import create

IDLE_POLLS_MAX = 64
"""Polls in a row that found nothing: whoever interrupts so often for nothing is not armed again.

The watchdog does it, a tick later.
"""


async def _alloc_rings(host: Host, layout: Layout, size: int) -> Rings:
    """Both rings of a side, zeroed.

    Raises:
        NoMemoryError: nothing is left allocated.
    """
    desc = await host.dma_alloc_coherent(size * layout.size)
    try:
        cq = await host.dma_alloc_coherent(size * COMPLETION.size)
    except NoMemoryError:
        await host.dma_free_coherent(desc)
        raise
    return Rings(size, _entries(desc, layout, size), _entries(cq, COMPLETION, size), desc, cq)


def _entries(block: Coherent, layout: Layout, size: int) -> NDArray[Any]:
    return block.view[: size * layout.size].view(layout.dtype)


async def _free_rings(host: Host, rings: Rings) -> None:
    await host.dma_free_coherent(rings.cq_block)
    await host.dma_free_coherent(rings.desc_block)


async def dmabed_qp_alloc(priv: Priv, index: int, cfg: Config) -> Qp:
    """A queue pair with empty rings.

    Raises:
        NoMemoryError: nothing is left allocated.
    """
    host = priv.host
    rx_rings = await _alloc_rings(host, RX_DESC, cfg.rx_size)
    try:
        tx_rings = await _alloc_rings(host, TX_DESC, cfg.tx_size)
    except NoMemoryError:
        await _free_rings(host, rx_rings)
        raise
    config = PoolConfig(
        pool_size=cfg.rx_size, headroom=DMABED_RX_HEADROOM, buffer_bytes=DMABED_RX_BUF_LEN
    )
    pool = create(priv.rx_mode, host.pages, priv.steps.pool_dma(host), config)
    rx = Rx(rx_rings, BufferRing(cfg.rx_size), pool)
    return Qp(index, r.qp_base(index), rx, Tx.on(tx_rings), priv.stats[index], priv)


async def dmabed_set_alloc(priv: Priv, cfg: Config) -> list[Qp]:
    """Queue pairs ready for ``dmabed_up``.

    Raises:
        NoMemoryError: memory or IOVAs are short; nothing is left allocated.
    """
    pairs: list[Qp] = []
    try:
        for index in range(cfg.queues):
            qp = await dmabed_qp_alloc(priv, index, cfg)
            pairs.append(qp)
            await dmabed_rx_refill(qp)
            if qp.rx.posted < cfg.rx_size:
                raise NoMemoryError(
                    f"queue pair {index}: {qp.rx.posted} of {cfg.rx_size} receive buffers; "
                    "use smaller rings or fewer channels"
                )
    except NoMemoryError:
        await dmabed_set_free(priv, pairs)
        raise
    return pairs


async def dmabed_set_free(priv: Priv, pairs: list[Qp]) -> None:
    """Gives back all memory of ``pairs``; the device is stopped, NAPI is off."""
    for qp in reversed(pairs):
        dmabed_tx_drain(qp)
        await dmabed_rx_teardown(qp)
        for rings in (qp.tx.rings, qp.rx.rings):
            await priv.steps.free_rings(priv, rings.cq_block)
            await priv.steps.free_rings(priv, rings.desc_block)


async def dmabed_set_rewind(pairs: list[Qp]) -> None:
    """Makes a set that was in service ready for ``dmabed_up`` again."""
    for qp in pairs:
        dmabed_tx_drain(qp)
        await dmabed_rx_rewind(qp)
        qp.broken = False


async def dmabed_arm(qp: Qp) -> None:
    """Asks for an interrupt as soon as there is a completion not seen here."""
    seen = field_prep(r.DMABED_QP_ARM_RX_SEEN, qp.rx.next & 0xFFFF)
    seen |= field_prep(r.DMABED_QP_ARM_TX_SEEN, qp.tx.seen & 0xFFFF)
    qp.stats.arms += 1
    await qp.priv.host.mmio_write32(qp.base + r.DMABED_QP_ARM, seen)


async def dmabed_poll(qp: Qp, budget: int = NAPI_POLL_WEIGHT) -> int:
    """The NAPI poll; ``budget`` as its result means: poll again.

    The vector disarmed itself when it was raised and is armed again here, when all is done.
    """
    qp.stats.polls += 1
    sent = await dmabed_tx_poll(qp)
    work = await dmabed_rx_poll(qp, budget)
    if qp.broken:
        return min(work, budget - 1)
    qp.idle_polls = 0 if sent or work else qp.idle_polls + 1
    if work < budget and qp.idle_polls < IDLE_POLLS_MAX:
        await dmabed_arm(qp)
    return work


async def dmabed_napi_schedule(qp: Qp) -> None:
    """The softirq: polls until a poll leaves budget. Does nothing while NAPI is off or polling."""
    if not qp.napi_enabled or qp.in_poll:
        return
    qp.in_poll = True
    try:
        while qp.napi_enabled and await dmabed_poll(qp) == NAPI_POLL_WEIGHT:
            pass
    finally:
        qp.in_poll = False
