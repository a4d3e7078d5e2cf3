# SPDX-License-Identifier: MIT
"""A set into and out of service, and resets: ``dmabed_service.c``, ``dmabed_recover.c``."""

from __future__ import annotations

from driver.model.device import (
    dmabed_device_configure,
    dmabed_device_disable,
    dmabed_device_enable_qp,
    dmabed_device_link,
    dmabed_device_reset,
)
from driver.model.errors import BadConfigError, DeviceGoneError, DeviceStuckError, NoMemoryError
from driver.model.queue import (
    dmabed_napi_schedule,
    dmabed_set_alloc,
    dmabed_set_free,
    dmabed_set_rewind,
)
from driver.model.rx import dmabed_rx_refill, dmabed_rx_ring_doorbell
from driver.model.structs import Config, Priv, Qp
from driver.model.watchdog import dmabed_watchdog_start, dmabed_watchdog_tick
from emulator.nic import registers as r

RESET_INTERVAL_NS = 1_000_000_000
"""A device that breaks its rings again and again is reset at most so often."""
RESET_TRIES = 10
"""A device that does not come back is tried again so often, once in :data:`RESET_INTERVAL_NS`."""
NAPI_WAIT_NS = 10_000


async def dmabed_up(priv: Priv, pairs: list[Qp]) -> None:
    """Puts ``pairs`` into service: rings run, interrupts are armed, the MAC passes frames."""
    priv.set = pairs
    await dmabed_device_configure(priv)
    for qp in pairs:
        await dmabed_device_enable_qp(qp)
        qp.napi_enabled = True
    dmabed_watchdog_start(priv, pairs)
    await priv.host.mmio_write32(r.DMABED_CTRL, r.DMABED_CTRL_ENABLE)
    await dmabed_device_link(priv)
    for qp in pairs:
        await dmabed_napi_schedule(qp)


async def dmabed_down(priv: Priv) -> list[Qp]:
    """Takes the set out of service; the device does no DMA for it any more. Returns the pairs."""
    pairs, priv.set = priv.set, []
    await priv.steps.before_down(priv, pairs)
    for qp in pairs:
        qp.napi_enabled = False
        while qp.in_poll:
            await priv.host.sleep_ns(NAPI_WAIT_NS)
    await dmabed_device_disable(priv, pairs)
    priv.carrier = False
    return pairs


async def dmabed_restart(priv: Priv) -> None:
    """Stops, resets and starts the device with the set it has.

    Raises:
        DeviceGoneError, DeviceStuckError: the set is out of service and stays so.
    """
    pairs = await dmabed_down(priv)
    try:
        await dmabed_device_reset(priv)
    except (DeviceGoneError, DeviceStuckError):
        await dmabed_set_free(priv, pairs)
        raise
    await dmabed_set_rewind(pairs)
    await dmabed_up(priv, pairs)


async def dmabed_reconfigure(priv: Priv, cfg: Config) -> None:
    """Changes to ``cfg``. The new set is allocated first, so a failure leaves the old one running.

    Raises:
        BadConfigError: the device cannot do it. NoMemoryError: it does not fit.
    """
    _check_config(priv, cfg)
    if not priv.set:
        priv.cfg = cfg
        return
    try:
        fresh = await dmabed_set_alloc(priv, cfg)
    except NoMemoryError:
        await priv.steps.reload_failed(priv)
        raise
    priv.cfg = cfg
    old = await dmabed_down(priv)
    await dmabed_set_free(priv, old)
    if priv.gone:
        await dmabed_set_free(priv, fresh)
        raise DeviceGoneError("the device did not stop; bus mastering is off")
    await dmabed_up(priv, fresh)


def _check_config(priv: Priv, cfg: Config) -> None:
    if not 1 <= cfg.queues <= priv.max_queues:
        raise BadConfigError(f"{cfg.queues} channels: 1 to {priv.max_queues} are possible")
    for size in (cfg.rx_size, cfg.tx_size):
        if size & (size - 1) or not priv.min_ring <= size <= priv.max_ring:
            raise BadConfigError(
                f"ring of {size}: a power of two, {priv.min_ring} to {priv.max_ring}"
            )


def dmabed_schedule_reset(priv: Priv) -> None:
    """Asks for a reset; :func:`dmabed_reset_work` does it when its time has come."""
    priv.reset_pending = True


async def dmabed_reset_work(priv: Priv) -> bool:
    """The reset worker: resets if asked to and if the last one was long enough ago. True: it did.

    A device that does not come back has bus mastering off, and is tried again up to
    :data:`RESET_TRIES` times; then it is left alone.
    """
    early = priv.resets and priv.host.now_ns - priv.last_reset_ns < RESET_INTERVAL_NS
    if early:
        return False
    if priv.tries:
        return await _dmabed_try_again(priv)
    if not priv.reset_pending or not priv.set:
        return False
    priv.reset_pending = False
    priv.resets += 1
    priv.last_reset_ns = priv.host.now_ns
    try:
        await dmabed_restart(priv)
    except (DeviceGoneError, DeviceStuckError):
        priv.gone = True
        priv.tries = RESET_TRIES
    return True


async def _dmabed_try_again(priv: Priv) -> bool:
    """One more try to get a device back whose set was given up."""
    priv.tries -= 1
    priv.last_reset_ns = priv.host.now_ns
    try:
        await dmabed_device_reset(priv)
    except (DeviceGoneError, DeviceStuckError):
        return False
    try:
        fresh = await dmabed_set_alloc(priv, priv.cfg)
    except NoMemoryError:
        return False
    priv.tries = 0
    priv.resets += 1
    await dmabed_up(priv, fresh)
    return True


async def dmabed_watchdog(priv: Priv) -> None:
    """What the kernel does by timers: looks after queues, refills starved rings, resets."""
    if await dmabed_watchdog_tick(priv):
        dmabed_schedule_reset(priv)
    await dmabed_reset_work(priv)
    priv.dying[:] = [pool for pool in priv.dying if pool.close()]
    for qp in priv.set:
        if not qp.in_poll and not qp.broken and qp.rx.posted == qp.rx.next:
            await dmabed_rx_refill(qp)
            await dmabed_rx_ring_doorbell(qp)
