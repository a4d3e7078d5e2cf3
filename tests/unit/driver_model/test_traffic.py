# SPDX-License-Identifier: MIT
"""Frames through NIC, IOMMU, ledger and driver, checked to the last byte."""

import io

import numpy as np
import pytest

from driver.model.host import run_to_completion as go
from driver.model.main import DeviceStats, dmabed_get_stats64
from driver.model.stack import Forward, Hold, LocalPages
from driver.model.structs import DMABED_RX_BUF_LEN, Config
from driver.model.tx import dmabed_start_xmit
from emulator.nic.wire.generator import Fixed, Imix, Range
from emulator.nic.wire.pcap import PcapWriter, Replay, parse
from emulator.nic.wire.testframes import Checker, build
from pool.interface import Context
from tests.unit.driver_model.support import (
    MODES,
    SMALL,
    Bed,
    Capture,
    Silent,
    assert_intact,
    generator,
    mac,
)


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_every_payload_of_100000_frames_of_any_size_arrives_intact(mode):
    bed = Bed(generator(100_000, Range(60, 9014)), mode)
    bed.run()
    assert_intact(bed.checker, 100_000)
    assert min(rx.next for rx in bed.rx) > 10 * 512  # rings wrapped many times
    bed.remove()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "sizes",
    [Fixed(60), Fixed(DMABED_RX_BUF_LEN), Fixed(DMABED_RX_BUF_LEN + 1), Fixed(9014), Imix()],
    ids=["60", "one buffer", "one buffer and a byte", "9014", "imix"],
)
def test_small_rings_wrap_without_losing_a_frame(mode, sizes):
    bed = Bed(generator(2_000, sizes), mode, cfg=SMALL)
    bed.run()
    assert_intact(bed.checker, 2_000)
    assert min(rx.next for rx in bed.rx) > 2 * 64
    bed.remove()


def steady_counts(mode):
    """The ledger's counts for 20000 frames after 5000 had gone through."""
    wire = generator(5_000)
    bed = Bed(wire, mode)
    bed.run()
    bed.machine.ledger.window_begin(bed.machine.now_ns, "steady")
    wire._config = generator(25_000)._config
    bed.host.touch()
    bed.run()
    counts = bed.machine.ledger.window_end(bed.machine.now_ns, "steady")
    assert_intact(bed.checker, 25_000)
    assert counts.rx_packets == 20_000
    bed.remove()
    return counts


def test_page_pool_maps_nothing_in_steady_state():
    counts = steady_counts("page_pool")
    assert (counts.maps, counts.unmaps) == (0, 0)


def test_map_per_packet_maps_and_unmaps_once_per_frame():
    counts = steady_counts("map_per_packet")
    assert (counts.maps, counts.unmaps) == (20_000, 20_000)


def test_polls_are_bounded_by_the_budget_and_ring_one_doorbell_each():
    bed = Bed(generator(10_000), cfg=Config(1))
    bed.run()
    stats = bed.priv.stats[0]
    assert stats.polls >= 10_000 / 64
    assert stats.rx_doorbells <= stats.polls + 1
    bed.remove()


@pytest.mark.parametrize("mode", MODES)
def test_pcap_in_equals_pcap_out_through_driver_and_back(mode):
    into = io.BytesIO()
    writer = PcapWriter(into.write)
    writer.write(generator(3_000, Range(60, 9014)).receive(3_000, 0), 0)
    writer.flush()
    wire = Capture(Replay(parse(into.getvalue())))
    bed = Bed(wire, mode, Forward(), Config(1, 128, 128))
    bed.run()
    out = io.BytesIO()
    writer = PcapWriter(out.write)
    writer.write(type(parse(into.getvalue()).frames).of(wire.frames), 0)
    writer.flush()
    assert out.getvalue() == into.getvalue()
    bed.remove()


@pytest.mark.parametrize("mode", MODES)
def test_forwarding_on_all_queues_keeps_each_flow_in_order(mode):
    wire = generator(20_000, Imix())
    bed = Bed(wire, mode, Forward())
    bed.run()
    assert_intact(wire.checker, 20_000)
    stats = dmabed_get_stats64(bed.priv)
    assert (stats.rx_packets, stats.tx_packets, stats.tx_maps) == (20_000, 20_000, 20_000)
    assert stats.tx_maps == stats.tx_unmaps
    bed.remove()


def test_second_page_of_a_forwarded_buffer_must_be_mapped_too():
    wire = generator(2_000, Fixed(DMABED_RX_BUF_LEN))
    bed = Bed(wire, "mempool", Forward(), Config(1, 64, 64))
    bed.run()
    assert_intact(wire.checker, 2_000)
    bed.remove()


def test_frames_forwarded_from_page_pool_return_to_its_cache():
    bed = Bed(generator(20_000), stack=Forward())
    bed.run()
    pool = bed.rx[0].pool.counters
    assert pool.recycled_cache > 1_000
    assert pool.recycled_ring == pool.cache_full  # only what the cache had no room for
    assert (pool.outstanding, pool.released) == (512, 0)
    bed.remove()


def local_frames(count, length, first=0):
    sequences = np.arange(first, first + count)
    flows = np.zeros(count, np.int64)
    return build(mac(9), mac(0), flows, sequences, np.full(count, length))


@pytest.mark.parametrize("piece", [4096, 1000, 61], ids=lambda n: f"pieces of {n}")
def test_frames_made_on_the_host_leave_intact_in_any_number_of_pieces(piece):
    wire = Capture(Silent())
    bed = Bed(wire, cfg=Config(1, 64, 1024))
    owner = LocalPages(bed.machine.pages)
    for first in range(0, 400, 40):
        skbs = owner.skbs(bed.host, local_frames(40, 1514, first), piece)
        assert len(go(dmabed_start_xmit(bed.priv, 0, skbs))) == 0
        bed.run()
    checker = Checker()
    checker.take(local_frames(0, 60).of(wire.frames))
    assert_intact(checker, 400)
    assert owner.freed == 400 * -(-1514 // piece)
    bed.remove()


def test_frames_without_room_are_returned_and_the_stack_is_woken():
    bed = Bed(Silent(), cfg=Config(1, 64, 64))
    owner, woken = LocalPages(bed.machine.pages), []

    async def wake(priv, queue):
        woken.append(queue)

    bed.stack.wake = wake
    later = go(dmabed_start_xmit(bed.priv, 0, owner.skbs(bed.host, local_frames(100, 60))))
    assert (len(later), woken) == (36, [])
    bed.run()
    assert woken == [0]
    assert len(go(dmabed_start_xmit(bed.priv, 0, later))) == 0
    bed.run()
    assert (owner.freed, bed.priv.stats[0].tx_packets) == (100, 100)
    bed.remove()


@pytest.mark.parametrize("length", [13, 9019])
def test_frames_no_device_can_carry_are_dropped_and_freed(length):
    bed = Bed(Silent())
    owner = LocalPages(bed.machine.pages)
    data = np.zeros(length, np.uint8)
    frames = local_frames(1, 60).of([data.tobytes()])
    go(dmabed_start_xmit(bed.priv, 0, owner.skbs(bed.host, frames)))
    assert bed.priv.stats[0].tx_dropped == 1
    bed.remove()


def test_driver_and_device_count_the_same():
    bed = Bed(generator(5_000, Imix()), stack=Forward())
    bed.run()
    device = [go(DeviceStats.read(bed.priv, q)) for q in range(4)]
    driver = bed.priv.stats[:4]
    for name in ("rx_packets", "rx_bytes", "tx_packets", "tx_bytes", "tx_errors"):
        assert [getattr(d, name) for d in device] == [getattr(d, name) for d in driver], name
    assert sum(d.rx_packets for d in device) == 5_000
    bed.remove()


@pytest.mark.parametrize("mode", MODES)
def test_two_devices_at_once_keep_apart(mode):
    one = Bed(generator(10_000, seed=1), mode, Forward())
    two = Bed(generator(10_000, seed=2), mode, Forward(), machine=one.machine)
    one.machine.run([one.priv, two.priv])
    assert_intact(one.wire.checker, 10_000)
    assert_intact(two.wire.checker, 10_000)
    one.remove()
    two.remove()
    exposures = one.machine.ledger.verdict().exposures
    assert [seen.shared_pages for seen in exposures] == [0, 0]


def test_pages_freed_on_another_cpu_come_back_through_the_ring():
    stack = Hold()
    bed = Bed(generator(3_000, rate_pps=1_000_000), stack=stack, cfg=Config(1, 256, 64))
    while not bed.wire.done:
        bed.run(bed.machine.now_ns + 50_000)
        stack.release(Context.REMOTE)
    bed.run()
    stack.release(Context.REMOTE)
    pool = bed.rx[0].pool.counters
    assert pool.recycled_ring > 1_000
    assert pool.refill > 0
    bed.remove()
