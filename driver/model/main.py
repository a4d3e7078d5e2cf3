# SPDX-License-Identifier: MIT
"""Entry points: probe and remove, open and stop, interrupts, settings, statistics."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Self

from driver.model.device import (
    ALL_ONES,
    EVENTS,
    dmabed_device_get_mac,
    dmabed_device_identify,
    dmabed_device_link,
    dmabed_device_reset,
    dmabed_max_frame,
    dmabed_read64,
    field_get,
)
from driver.model.errors import BadConfigError, DeviceGoneError, DeviceStuckError, ProbeError
from driver.model.host import Host
from driver.model.queue import dmabed_napi_schedule, dmabed_set_alloc, dmabed_set_free
from driver.model.steps import Steps
from driver.model.structs import (
    DMABED_MAX_MTU,
    DMABED_NOTE_BOUND,
    DMABED_NOTE_GAVE_BACK,
    DMABED_NOTE_GONE,
    ETH_HLEN,
    Config,
    Priv,
    Qstats,
    Stack,
)
from driver.model.updown import (
    dmabed_down,
    dmabed_reconfigure,
    dmabed_schedule_reset,
    dmabed_up,
    dmabed_watchdog,
)
from emulator.nic import registers as r
from pool.registry import STRATEGIES

ETH_MIN_MTU = 68


async def dmabed_probe(
    host: Host,
    stack: Stack,
    rx_mode: str = "page_pool",
    cfg: Config | None = None,
    steps: Steps | None = None,
) -> Priv:
    """Resets and identifies the device; returns it down, with nothing mapped.

    cfg: channels and rings to begin with; None: all queue pairs, default rings. steps: with a bug
    planted; None: none.

    Raises:
        ProbeError: not a usable device; bus mastering is off again.
    """
    if rx_mode not in STRATEGIES:
        raise ProbeError(f"rx_mode {rx_mode!r}: one of {', '.join(sorted(STRATEGIES))}")
    stats = [Qstats() for _ in range(r.DMABED_QP_MAX)]
    priv = Priv(host, stack, rx_mode, Config(0), 0, 0, 0, 0, b"", stats)
    priv.steps = steps or priv.steps
    try:
        await dmabed_device_identify(priv)
        await dmabed_device_reset(priv)
        priv.mac = await dmabed_device_get_mac(priv)
        priv.cfg = Config(priv.max_queues)
        await dmabed_reconfigure(priv, cfg or priv.cfg)
    except (ProbeError, DeviceGoneError, DeviceStuckError, BadConfigError) as error:
        await host.set_bus_master(False)
        raise ProbeError(f"probe failed: {error}") from error
    await host.mmio_write32(r.DMABED_NOTE, DMABED_NOTE_BOUND)
    return priv


async def dmabed_remove(priv: Priv) -> None:
    """Stops the device and lets go of it: all unmapped first, then bus mastering off.

    The notes are written whatever the reset said: a device that no longer answers ignores them.
    """
    await dmabed_stop(priv)
    with contextlib.suppress(DeviceGoneError, DeviceStuckError):
        await dmabed_device_reset(priv)
    await priv.host.mmio_write32(r.DMABED_NOTE, DMABED_NOTE_GAVE_BACK)
    await priv.steps.master_off(priv)
    await priv.host.mmio_write32(r.DMABED_NOTE, DMABED_NOTE_GONE)
    priv.removed = True


async def dmabed_open(priv: Priv) -> None:
    """ndo_open: allocates a set and puts it into service.

    Raises:
        NoMemoryError: it does not fit. DeviceGoneError: the device was given up before, and a
        reset does not bring it back.
    """
    if priv.set:
        return
    if priv.gone:
        try:
            await dmabed_device_reset(priv)
        except DeviceStuckError as error:
            raise DeviceGoneError(f"the device was given up and is not back: {error}") from error
    await dmabed_up(priv, await dmabed_set_alloc(priv, priv.cfg))


async def dmabed_stop(priv: Priv) -> None:
    """ndo_stop: out of service, everything unmapped and given back."""
    priv.tries = 0
    if priv.set:
        await dmabed_set_free(priv, await dmabed_down(priv))
    priv.dying[:] = [pool for pool in priv.dying if pool.close()]


async def dmabed_set_channels(priv: Priv, queues: int) -> None:
    """As ``ethtool -L``. Raises: as :func:`~driver.model.updown.dmabed_reconfigure`."""
    await dmabed_reconfigure(priv, Config(queues, priv.cfg.rx_size, priv.cfg.tx_size))


async def dmabed_set_ringparam(priv: Priv, rx_size: int, tx_size: int) -> None:
    """As ``ethtool -G``. Raises: as :func:`~driver.model.updown.dmabed_reconfigure`."""
    await dmabed_reconfigure(priv, Config(priv.cfg.queues, rx_size, tx_size))


async def dmabed_change_mtu(priv: Priv, mtu: int) -> None:
    """ndo_change_mtu: bytes of the largest packet behind the Ethernet header.

    Raises:
        BadConfigError: the device cannot carry it.
    """
    largest = min(DMABED_MAX_MTU, priv.frame_cap - ETH_HLEN)
    if not ETH_MIN_MTU <= mtu <= largest:
        raise BadConfigError(f"MTU {mtu}: {ETH_MIN_MTU} to {largest} are possible")
    priv.mtu = mtu
    await priv.host.mmio_write32(r.DMABED_MAX_FRAME, dmabed_max_frame(priv))


async def dmabed_intr(priv: Priv, vector: int) -> None:
    """Handles MSI-X ``vector``; one that is nobody's is ignored."""
    if vector == 0:
        await dmabed_event_irq(priv)
    elif vector <= len(priv.set):
        priv.set[vector - 1].interrupts += 1
        await dmabed_napi_schedule(priv.set[vector - 1])


async def dmabed_event_irq(priv: Priv) -> None:
    """Vector 0: link changes, refused DMA, stopped rings."""
    events = await priv.host.mmio_read32(r.DMABED_EVENT)
    if events == ALL_ONES:
        dmabed_schedule_reset(priv)
        return
    events &= EVENTS
    if events & r.DMABED_EVENT_DMA_FAULT:
        info = await priv.host.mmio_read32(r.DMABED_FAULT_INFO)
        priv.dma_faults += field_get(r.DMABED_FAULT_INFO_COUNT, info)
    await priv.host.mmio_write32(r.DMABED_EVENT, events)
    if events & r.DMABED_EVENT_LINK and priv.set:
        await dmabed_device_link(priv)
    if events & r.DMABED_EVENT_RING_FAULT:
        dmabed_schedule_reset(priv)


async def dmabed_run(priv: Priv) -> None:
    """Serves interrupts and timers until the host expects none."""
    while (vector := await priv.host.wait_interrupt()) is not None:
        await dmabed_intr(priv, vector)
        await dmabed_watchdog(priv)
    await dmabed_watchdog(priv)


@dataclass(slots=True)
class DeviceStats:
    """The device's own counts of a queue pair, in the order of its registers."""

    rx_packets: int = 0
    rx_bytes: int = 0
    rx_drops: int = 0
    rx_errors: int = 0
    tx_packets: int = 0
    tx_bytes: int = 0
    tx_errors: int = 0
    interrupts: int = 0

    @classmethod
    async def read(cls, priv: Priv, queue: int) -> Self:
        """All eight registers of ``queue``."""
        first = r.qp_base(queue) + r.DMABED_QP_RX_PACKETS
        return cls(*[await dmabed_read64(priv.host, first + 8 * i) for i in range(8)])


def dmabed_get_stats64(priv: Priv) -> Qstats:
    """The driver's counts of all queue pairs, and those of the pools that are up."""
    total = Qstats()
    for stats in priv.stats:
        total.add(stats)
    for qp in priv.set:
        total.rx_maps += qp.rx.pool.counters.maps
        total.rx_unmaps += qp.rx.pool.counters.unmaps
    return total
