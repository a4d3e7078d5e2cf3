# SPDX-License-Identifier: MIT
"""The device behind its registers: ``dmabed_device.c``. Allocates nothing; waits are bounded."""

from __future__ import annotations

from driver.model.errors import DeviceGoneError, DeviceStuckError, ProbeError
from driver.model.host import Host
from driver.model.rx import dmabed_rx_ring_doorbell
from driver.model.structs import ETH_HLEN, MAX_SKB_FRAGS, Priv, Qp, Rings
from emulator.nic import registers as r

ALL_ONES = 0xFFFF_FFFF
POLL_NS = 50_000
RESET_NS = 500_000_000
STOP_NS = 200_000_000
EVENTS = r.DMABED_EVENT_LINK | r.DMABED_EVENT_DMA_FAULT | r.DMABED_EVENT_RING_FAULT
VLAN_HLEN = 4
VLAN_ETH_FRAME_LEN = 1518


def field_get(mask: int, value: int) -> int:
    """FIELD_GET() of <linux/bitfield.h>."""
    return (value & mask) // (mask & -mask)


def field_prep(mask: int, value: int) -> int:
    """FIELD_PREP() of <linux/bitfield.h>."""
    return value * (mask & -mask) & mask


async def dmabed_read64(host: Host, offset: int) -> int:
    """A 64-bit register; reading the low half latches the high half."""
    low = await host.mmio_read32(offset)
    return low | await host.mmio_read32(offset + 4) << 32


async def _poll_register(
    host: Host, offset: int, mask: int, value: int, timeout_ns: int, what: str
) -> None:
    """Reads until ``register & mask == value``.

    Raises:
        DeviceGoneError: it reads all ones. DeviceStuckError: not within ``timeout_ns``.
    """
    deadline_ns = host.now_ns + timeout_ns
    while True:
        seen = await host.mmio_read32(offset)
        if seen == ALL_ONES:
            raise DeviceGoneError(f"{what}: the device no longer answers; remove it")
        if seen & mask == value:
            return
        if host.now_ns >= deadline_ns:
            raise DeviceStuckError(f"{what}: register {offset:#x} stays {seen:#x}")
        await host.sleep_ns(POLL_NS)


async def dmabed_device_reset(priv: Priv) -> None:
    """Resets the device. Bus mastering is on afterwards only if that succeeded.

    Raises:
        DeviceGoneError, DeviceStuckError: then ``priv.gone`` is set.
    """
    host = priv.host
    priv.gone = True
    await host.mmio_write32(r.DMABED_CTRL, r.DMABED_CTRL_RESET)
    ready = r.DMABED_STATUS_READY
    try:
        await _poll_register(host, r.DMABED_STATUS, ready, ready, RESET_NS, "reset")
        await _see_rings_stopped(priv)
    except (DeviceGoneError, DeviceStuckError):
        await host.set_bus_master(False)
        raise
    await host.set_bus_master(True)
    priv.gone = False


async def _see_rings_stopped(priv: Priv) -> None:
    """A reset that did not happen shows: a ring still runs.

    Raises:
        DeviceGoneError, DeviceStuckError.
    """
    for queue in range(priv.max_queues):
        for control in (r.DMABED_QP_RX_CTRL, r.DMABED_QP_TX_CTRL):
            running, at = r.DMABED_QP_RX_CTRL_RUNNING, r.qp_base(queue) + control
            await _poll_register(priv.host, at, running, 0, STOP_NS, f"reset of queue {queue}")


async def dmabed_device_identify(priv: Priv) -> None:
    """Checks id and version, and bounds everything the device says about itself.

    Raises:
        ProbeError: it is not a device this driver can use.
    """
    host = priv.host
    if (found := await host.mmio_read32(r.DMABED_ID)) != r.DMABED_ID_MAGIC_VALUE:
        raise ProbeError(f"BAR 0 begins with {found:#x}, not with a dmabed NIC")
    version = await host.mmio_read32(r.DMABED_VERSION)
    if (major := field_get(r.DMABED_VERSION_MAJOR, version)) != r.DMABED_VERSION_MAJOR_VALUE:
        raise ProbeError(
            f"interface version {major}, the driver knows {r.DMABED_VERSION_MAJOR_VALUE}"
        )
    caps = await host.mmio_read32(r.DMABED_CAPS)
    vectors = field_get(r.DMABED_CAPS_VECTORS, caps)
    queues = min(field_get(r.DMABED_CAPS_QUEUES, caps), r.DMABED_QP_MAX)
    priv.max_queues = min(queues, max(vectors - 1, 0))
    # The ARM register counts completions modulo 2^16.
    priv.max_ring = 1 << min(field_get(r.DMABED_CAPS_RING_LOG2_MAX, caps), 15)
    priv.min_ring = 1 << min(field_get(r.DMABED_CAPS_RING_LOG2_MIN, caps), 15)
    cap = await host.mmio_read32(r.DMABED_FRAME_CAP)
    priv.frame_cap = field_get(r.DMABED_FRAME_CAP_BYTES, cap)
    _check_caps(priv, caps)


def _check_caps(priv: Priv, caps: int) -> None:
    rings = 2 * MAX_SKB_FRAGS <= priv.min_ring <= priv.max_ring
    if not (priv.max_queues and rings and priv.frame_cap >= VLAN_ETH_FRAME_LEN):
        raise ProbeError(f"impossible capabilities {caps:#x}, frame {priv.frame_cap}")


async def dmabed_device_get_mac(priv: Priv) -> bytes:
    """The device's address, six bytes."""
    low = await priv.host.mmio_read32(r.DMABED_MAC_LO)
    high = await priv.host.mmio_read32(r.DMABED_MAC_HI)
    return low.to_bytes(4, "little") + (high & 0xFFFF).to_bytes(2, "little")


async def dmabed_device_set_mac(priv: Priv, mac: bytes) -> None:
    """Sets it."""
    await priv.host.mmio_write32(r.DMABED_MAC_LO, int.from_bytes(mac[:4], "little"))
    await priv.host.mmio_write32(r.DMABED_MAC_HI, int.from_bytes(mac[4:6], "little"))


def dmabed_max_frame(priv: Priv) -> int:
    """Bytes of the largest frame to accept, with a VLAN tag and without FCS."""
    return min(priv.mtu + ETH_HLEN + VLAN_HLEN, priv.frame_cap)


async def dmabed_set_rx_mode(priv: Priv) -> None:
    """Writes the receive filter."""
    promisc = r.DMABED_RX_FILTER_PROMISC if priv.promisc else 0
    await priv.host.mmio_write32(r.DMABED_RX_FILTER, promisc)


async def dmabed_device_configure(priv: Priv) -> None:
    """All that a reset made the device forget, but for the rings."""
    host = priv.host
    await dmabed_device_set_mac(priv, priv.mac)
    await host.mmio_write32(r.DMABED_MAX_FRAME, dmabed_max_frame(priv))
    await host.mmio_write32(r.DMABED_RSS_QUEUES, len(priv.set))
    await dmabed_set_rx_mode(priv)
    moderation = field_prep(r.DMABED_QP_MODERATION_USECS, priv.usecs)
    moderation |= field_prep(r.DMABED_QP_MODERATION_FRAMES, priv.frames)
    for qp in priv.set:
        await host.mmio_write32(qp.base + r.DMABED_QP_MODERATION, moderation)
    await host.mmio_write32(r.DMABED_EVENT, EVENTS)
    await host.mmio_write32(r.DMABED_EVENT_MASK, EVENTS)


async def _write_rings(host: Host, rings: Rings, ring: int, cq: int, size: int) -> None:
    """IOVAs and size of one side; ``ring``, ``cq`` and ``size`` are its registers' offsets."""
    for low, block in ((ring, rings.desc_block), (cq, rings.cq_block)):
        await host.mmio_write32(low, block.iova & ALL_ONES)
        await host.mmio_write32(low + 4, block.iova >> 32)
    await host.mmio_write32(size, rings.log2)


async def dmabed_device_enable_qp(qp: Qp) -> None:
    """Starts both directions of a pair and hands it the buffers of its ring."""
    host, base = qp.priv.host, qp.base
    await _write_rings(
        host,
        qp.rx.rings,
        base + r.DMABED_QP_RX_RING_LO,
        base + r.DMABED_QP_RX_CQ_LO,
        base + r.DMABED_QP_RX_SIZE,
    )
    await _write_rings(
        host,
        qp.tx.rings,
        base + r.DMABED_QP_TX_RING_LO,
        base + r.DMABED_QP_TX_CQ_LO,
        base + r.DMABED_QP_TX_SIZE,
    )
    await host.mmio_write32(base + r.DMABED_QP_TX_CTRL, r.DMABED_QP_TX_CTRL_ENABLE)
    await host.mmio_write32(base + r.DMABED_QP_RX_CTRL, r.DMABED_QP_RX_CTRL_ENABLE)
    await dmabed_rx_ring_doorbell(qp)


async def _stop_rings(priv: Priv, pairs: list[Qp]) -> None:
    host = priv.host
    controls = (r.DMABED_QP_RX_CTRL, r.DMABED_QP_TX_CTRL)
    for qp in pairs:
        for control in controls:
            await host.mmio_write32(qp.base + control, 0)
    for qp in pairs:
        for control in controls:
            running = r.DMABED_QP_RX_CTRL_RUNNING
            what = f"stop of queue pair {qp.index}"
            await _poll_register(host, qp.base + control, running, 0, STOP_NS, what)


async def dmabed_device_disable(priv: Priv, pairs: list[Qp]) -> None:
    """Afterwards the device does no DMA for ``pairs``.

    One way or another: its rings stopped, or a reset stopped them, or bus mastering is off (then
    ``priv.gone`` is set).
    """
    await priv.host.mmio_write32(r.DMABED_CTRL, 0)
    await priv.host.mmio_write32(r.DMABED_EVENT_MASK, 0)
    try:
        await _stop_rings(priv, pairs)
    except (DeviceGoneError, DeviceStuckError):
        try:
            await dmabed_device_reset(priv)
        except (DeviceGoneError, DeviceStuckError):
            return


async def dmabed_device_link(priv: Priv) -> None:
    """Takes over the state of the link."""
    status = await priv.host.mmio_read32(r.DMABED_STATUS)
    up = status != ALL_ONES and bool(status & r.DMABED_STATUS_LINK_UP)
    priv.link_changes += up != priv.carrier
    priv.carrier = up
