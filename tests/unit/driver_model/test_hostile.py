# SPDX-License-Identifier: MIT
"""A device that lies, and a driver with a planted bug: the first is survived, the second caught."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import driver.model.queue
from driver.model.errors import DeviceGoneError, WouldBlockError
from driver.model.host import run_to_completion as go
from driver.model.main import dmabed_intr, dmabed_open, dmabed_remove, dmabed_stop
from driver.model.stack import Forward, LocalPages
from driver.model.structs import DMABED_RX_BUF_LEN, Config
from driver.model.tx import dmabed_start_xmit
from driver.model.updown import RESET_INTERVAL_NS, dmabed_watchdog
from emulator.nic.descriptors import COMPLETION
from emulator.nic.registers import (
    DMABED_COMPLETION_STATUS_EOP,
    DMABED_COMPLETION_STATUS_ERROR,
    DMABED_COMPLETION_STATUS_PHASE,
    DMABED_COMPLETION_STATUS_SOP,
    DMABED_QP_RX_CTRL,
    DMABED_STATUS,
    qp_base,
)
from emulator.nic.wire.generator import Fixed
from pool.interface import PoolConfig
from pool.map_per_packet import MapPerPacket
from pool.page_pool import PagePool
from pool.ports import NO_ADDRESS
from pool.steps import unmap
from tests.unit.driver_model.support import (
    MODES,
    Bed,
    Lying,
    Silent,
    assert_intact,
    generator,
)

ONE = Config(1, 128, 128)
SOP, EOP = DMABED_COMPLETION_STATUS_SOP, DMABED_COMPLETION_STATUS_EOP
ERROR, PHASE = DMABED_COMPLETION_STATUS_ERROR, DMABED_COMPLETION_STATUS_PHASE


class Once:
    """Applies ``change`` to the completion number ``at`` that is written, and to no other."""

    def __init__(self, at, change):
        self._left, self._change = at, change

    def __call__(self, entries):
        if 0 <= self._left < len(entries):
            self._change(entries, self._left)
        self._left -= len(entries)


def put(**values):
    def change(entries, row):
        for name, value in values.items():
            entries[name][row] = value(entries[name][row]) if callable(value) else value

    return change


def lying_bed(lie, mode="page_pool", count=2_000, sizes=None, stack=None):
    return Bed(generator(count, sizes), mode, stack, ONE, wrap=lambda port: Lying(port, lie))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "wrong",
    [lambda i: (i + 1) % 128, lambda i: (i - 1) % 128, lambda i: 128, lambda i: 0xFFFF],
    ids=["next", "already consumed", "beyond the ring", "0xffff"],
)
def test_a_completion_for_the_wrong_buffer_stops_the_pair_until_a_reset(wrong, mode):
    bed = lying_bed(Once(300, put(id=wrong)), mode)
    bed.run()
    assert bed.priv.stats[0].rx_bad == 1
    assert bed.priv.resets == 1
    assert bed.checker.corrupt == 0
    assert bed.checker.frames >= 2_000 - 512
    assert bed.checker.frames < 2_000
    bed.remove()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("length", [0, DMABED_RX_BUF_LEN + 1, 0xFFFF])
def test_a_length_that_no_buffer_has_drops_the_frame_and_is_counted(length, mode):
    bed = lying_bed(Once(300, put(len=length)), mode)
    bed.run()
    stats = bed.priv.stats[0]
    assert (stats.rx_bad, stats.rx_dropped, stats.rx_packets) == (1, 1, 1_999)
    assert bed.priv.resets == 0
    bed.remove()


@pytest.mark.parametrize(
    "change",
    [
        put(frame_len=61),
        put(frame_len=0xFFFFFFFF),
        put(len=13, frame_len=13),
        put(status=lambda s: s & ~np.uint32(SOP)),
        put(status=lambda s: s | np.uint32(ERROR)),
    ],
    ids=["frame_len", "huge frame_len", "runt", "no SOP", "error"],
)
def test_a_frame_described_wrongly_is_dropped_and_the_next_ones_are_not(change):
    bed = lying_bed(Once(300, change))
    bed.run()
    stats = bed.priv.stats[0]
    assert (stats.rx_dropped, stats.rx_packets) == (1, 1_999)
    assert bed.checker.corrupt == 0
    bed.remove()


def test_a_frame_without_end_is_dropped_at_the_next_start():
    bed = lying_bed(Once(300, put(status=lambda s: s & ~np.uint32(EOP))))
    bed.run()
    assert (bed.priv.stats[0].rx_dropped, bed.checker.frames) == (1, 1_999)
    bed.remove()


def test_frames_that_never_end_hold_no_buffers():
    def endless(entries):
        entries["status"] &= np.uint32(PHASE)
        entries["frame_len"] = 1 << 30

    bed = lying_bed(endless)
    bed.run()
    assert bed.checker.frames == 0
    assert bed.rx[0].pool.counters.outstanding <= 128 + 18
    assert bed.wire.done
    bed.remove()


def test_more_pieces_than_a_frame_can_have_are_dropped():
    def merge(entries):
        state["n"] += len(entries)
        rows = np.arange(state["n"] - len(entries), state["n"])
        status = entries["status"] & np.uint32(PHASE)
        entries["status"] = status | (rows % 30 == 0) * SOP | (rows % 30 == 29) * EOP
        entries["frame_len"] = 30 * 60

    state = {"n": 0}
    bed = lying_bed(merge, count=1_500)
    bed.run()
    assert bed.checker.frames == 0
    assert bed.checker.others == 0
    assert bed.priv.stats[0].rx_dropped >= 50
    bed.remove()


@pytest.mark.parametrize(
    "change",
    [put(id=lambda i: (i + 1) % 128), put(id=0xFFFF), put(len=2), put(len=0)],
    ids=["wrong id", "0xffff", "too many descriptors", "none"],
)
def test_a_transmit_completion_that_fits_no_frame_is_counted_and_survived(change):
    bed = lying_bed(Once(-1, change), stack=Forward())

    def lie(entries):
        if (entries["status"] & (SOP | EOP) == SOP | EOP).all() and (entries["hash"] == 0).all():
            if not seen:
                change(entries, 0)
            seen.append(1)

    seen = []
    bed.host.nic.pairs[0].tx._context.dma._lie = lie
    bed.run()
    assert bed.priv.stats[0].tx_bad == 1
    assert bed.priv.resets == 1
    bed.stack.release()
    bed.remove()


def test_a_transmit_completion_for_nothing_is_counted_and_frees_nothing():
    bed = Bed(Silent(), cfg=ONE)
    tx = bed.priv.set[0].tx
    tx.rings.cq["status"][0] = PHASE | SOP | EOP
    go(dmabed_intr(bed.priv, 1))
    assert (bed.priv.stats[0].tx_bad, tx.clean) == (1, 0)
    bed.run()
    bed.remove()


def test_a_device_that_breaks_its_ring_again_and_again_is_reset_once_a_second():
    bed = lying_bed(partial(put(id=0xFFFF), row=slice(None)), count=10_000)
    for _ in range(5):
        bed.run(bed.machine.now_ns + 50_000)
    assert bed.priv.resets == 1
    bed.machine.advance(RESET_INTERVAL_NS)
    go(dmabed_watchdog(bed.priv))
    assert bed.priv.resets == 2
    bed.remove()


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    share=st.sampled_from([0.002, 0.05, 1.0]),
    mode=st.sampled_from(MODES),
    length=st.sampled_from([60, 9014]),
)
def test_no_completion_whatsoever_crashes_the_driver_or_costs_a_page(seed, share, mode, length):
    rng = np.random.default_rng(seed)

    def garbage(entries):
        rows = np.flatnonzero(rng.random(len(entries)) < share)
        for row in rows.tolist():
            name = rng.choice(COMPLETION.dtype.names)
            entries[name][row] = rng.integers(0, 1 << min(32, 8 * entries[name].itemsize))

    bed = lying_bed(garbage, mode, count=300, sizes=Fixed(length), stack=Forward())
    bed.run(bed.machine.now_ns + 100_000)
    bed.stack.release()
    bed.remove()


def test_an_interrupt_for_nobody_is_ignored():
    bed = Bed(generator(100), cfg=ONE)
    for vector in (0, 1, 2, 99):
        go(dmabed_intr(bed.priv, vector))
    go(dmabed_stop(bed.priv))
    go(dmabed_intr(bed.priv, 1))
    bed.remove()


class Stuck:
    """Registers of a device that does not do what it is told."""

    def __init__(self, nic, stuck):
        self._nic, self._stuck = nic, stuck

    def mmio_read(self, offset, size):
        return self._stuck.get(offset, self._nic.mmio_read(offset, size))

    def __getattr__(self, name):
        return getattr(self._nic, name)


def test_a_ring_that_does_not_stop_is_stopped_by_a_reset():
    bed = Bed(generator(1_000), cfg=ONE)
    bed.run()
    bed.host.nic = Stuck(bed.host.nic, {qp_base(0) + DMABED_QP_RX_CTRL: 3})
    go(dmabed_stop(bed.priv))
    assert (bed.priv.gone, bed.host.gate.open) == (False, True)
    bed.assert_nothing_left()
    go(dmabed_open(bed.priv))
    bed.remove()


def test_a_device_that_neither_stops_nor_resets_loses_bus_mastering_before_its_memory():
    bed = Bed(generator(1_000), cfg=ONE)
    bed.run()
    stuck = {qp_base(0) + DMABED_QP_RX_CTRL: 3, DMABED_STATUS: 0}
    bed.host.nic = Stuck(bed.host.nic, stuck)
    order = []
    unmap, master = bed.host.dma.unmap_range, bed.host.set_bus_master
    bed.host.dma.unmap_range = lambda *a: (order.append("unmap"), unmap(*a))[1]
    bed.host.set_bus_master = lambda on: (order.append(f"bus master {on}"), master(on))[1]
    go(dmabed_stop(bed.priv))
    assert order[0] == "bus master False"
    assert set(order[1:]) == {"unmap"}
    with pytest.raises(DeviceGoneError):
        go(dmabed_open(bed.priv))


def test_refused_dma_is_reported_to_the_driver():
    bed = Bed(generator(5_000, rate_pps=5_000_000), cfg=ONE)
    bed.run(200_000)
    victim = bed.rx[0].buffers.get(bed.rx[0].posted - 1, 1)
    bed.host.space.unmap(int(victim.iovas[0]) & ~0xFFF, 4096, bed.machine.now_ns)
    bed.run()
    assert bed.priv.stats[0].rx_dropped > 0  # at each time the pool handed the page out again
    assert bed.priv.dma_faults == bed.priv.stats[0].rx_dropped
    assert bed.checker.corrupt == 0


class UnmapsEarly(MapPerPacket):
    """Planted bug: unmaps, with the buffer received, one that is still posted."""

    def receive(self, batch, lengths):
        posted = np.flatnonzero(self.state.iova != NO_ADDRESS)
        posted = posted[~np.isin(posted, batch.pfns)]
        unmap(self.state, self.ports, len(posted[:1]), 0, posted)
        return super().receive(batch, lengths)


class GivesUpEarly(PagePool):
    """Planted bug (P1): close() is called, and unmaps everything, while the ring still runs."""

    def __init__(self, *args):
        super().__init__(*args, dma_tracking=True)


@pytest.mark.parametrize("mode", ["map_per_packet"])
def test_unmap_of_a_posted_buffer_is_caught_by_o3(monkeypatch, mode):
    def create(name, pages, dma, config=None):
        return UnmapsEarly(pages, dma, config or PoolConfig())

    monkeypatch.setattr(driver.model.queue, "create", create)
    bed = Bed(generator(200), mode, cfg=ONE)
    bed.run()
    assert bed.machine.ledger.verdict().counts["O-3"] > 0
    go(dmabed_remove(bed.priv))


def test_destroying_the_pool_before_the_ring_is_stopped_is_caught_by_o3(monkeypatch):
    def create(name, pages, dma, config=None):
        return GivesUpEarly(pages, dma, config)

    monkeypatch.setattr(driver.model.queue, "create", create)
    bed = Bed(generator(200), cfg=ONE)
    bed.run()
    bed.rx[0].pool.close()
    verdict = bed.machine.ledger.verdict()
    assert verdict.counts["O-3"] > 0
    assert "rx descriptors of queue 0" in verdict.violations[0].cause


def test_a_host_that_would_wait_is_named():
    class Waits:
        def __await__(self):
            yield

    async def wait():
        await Waits()

    with pytest.raises(WouldBlockError):
        go(wait())


def test_the_bed_itself_is_clean():
    bed = lying_bed(lambda entries: None, stack=None)
    bed.run()
    assert_intact(bed.checker, 2_000)
    owner = LocalPages(bed.machine.pages)
    frames = generator(5).receive(5, 0)
    go(dmabed_start_xmit(bed.priv, 0, owner.skbs(bed.host, frames)))
    bed.run()
    bed.remove()
