# SPDX-License-Identifier: MIT
"""Walk latencies: V2 (F&S), V3 (pcie-bench), V5; and that the two are not mixed."""

import numpy as np
import pytest

from emulator.iommu.model.contention import SerialServer, closed_loop_rate
from emulator.iommu.model.costs import load_costs
from emulator.iommu.model.errors import ModelError, TimeBackwardsError
from emulator.iommu.model.iotlb import TranslationCaches
from emulator.iommu.model.walker import (
    Calibration,
    WalkCosts,
    fs_throughput_gbps,
    pcie_read_gbps,
    pcie_write_gbps,
)

PAGE = 4096
LINE_GBPS = 100


def walk(name):
    costs = load_costs(name).walk
    assert costs is not None
    return costs


@pytest.mark.parametrize(
    ("reads", "gbps"), [(0, 504), (1, 125), (1.30, 102), (1.76, 79.6), (2.2, 65.7), (4.36, 35.5)]
)
def test_v2_throughput_for_reads_per_packet_is_that_of_fs(reads, gbps):
    assert fs_throughput_gbps(PAGE, reads, walk("vtd-strict-fs")) == pytest.approx(gbps, rel=0.01)


def test_v2_batch_of_fs_packets_takes_what_the_formula_says():
    reads = np.array([1, 2, 2, 2] * 250, np.int8)
    costs = walk("vtd-strict-fs")
    gbps = PAGE * 8 * len(reads) / costs.batch_ns(reads)
    assert gbps == pytest.approx(fs_throughput_gbps(PAGE, 1.75, costs))


def test_constants_of_one_paper_are_refused_in_the_formula_of_the_other():
    with pytest.raises(ModelError, match="load F&S's own"):
        fs_throughput_gbps(PAGE, 1.76, walk("vtd-strict"))


def all_missing_reads():
    """Random 64 B reads in 64 MB: each misses the IOTLB, and soon only that."""
    caches = TranslationCaches()
    where = np.random.default_rng(3).integers(0, 16384, 40_000) * PAGE
    return caches.translate(where)[5000:]


def test_v3_small_random_dma_that_all_misses_runs_at_17_to_22_million_a_second():
    reads, costs = all_missing_reads(), walk("vtd-strict")
    rate = len(reads) / costs.batch_ns(reads) * 1e3
    assert 17 <= rate <= 22
    assert 8.5 <= rate * 0.512 <= 11.3  # Gb/s
    unhindered = len(reads) / costs.batch_ns(np.zeros_like(reads)) * 1e3 * 0.512
    assert 1 - rate * 0.512 / unhindered == pytest.approx(0.65, abs=0.06)


def test_v3_latency_of_a_miss_is_in_the_measured_range_and_a_hit_costs_nothing():
    costs = walk("vtd-strict")
    hit, leaf, two = costs.latency_ns(np.array([0, 1, 2], np.int8)).tolist()
    assert 410 <= hit <= 437 and 213 <= leaf - hit <= 297 and two - leaf == 80


def test_finish_times_overlap_as_many_walks_as_there_are_walkers():
    costs = WalkCosts(Calibration.ASSUMED, 0, 0, 100, 2, 10, 1000)
    arrivals = np.zeros(5, np.int64)
    reads = np.array([1, 1, 0, 1, 2], np.int8)
    assert costs.finish_ns(arrivals, reads).tolist() == [110, 110, 10, 210, 310]
    spread = np.array([0, 0, 0, 500, 500], np.int64)
    assert costs.finish_ns(spread, reads).tolist() == [110, 110, 10, 610, 710]


@pytest.mark.parametrize("longest", [1, 3])
def test_each_walk_takes_the_first_walker_that_is_free(longest):
    costs = WalkCosts(Calibration.ASSUMED, 0, 5, 100, 3, 10, 1000)
    random = np.random.default_rng(6)
    arrivals = np.sort(random.integers(0, 5000, 200))
    reads = random.integers(1, longest + 1, 200).astype(np.int8)
    free, expected = [0] * 3, []
    for arrival, count in zip(arrivals.tolist(), reads.tolist(), strict=True):
        free.sort()
        free[0] = max(arrival, free[0]) + 5 + 100 * count
        expected.append(free[0] + 10)
    assert costs.finish_ns(arrivals, reads).tolist() == expected
    with pytest.raises(TimeBackwardsError):
        costs.finish_ns(arrivals[::-1], reads)


def test_finish_of_a_long_batch_tends_to_the_time_of_the_batch():
    costs = walk("vtd-strict")
    reads = all_missing_reads()[:20_000]
    last = int(costs.finish_ns(np.zeros(len(reads), np.int64), reads).max())
    assert last == pytest.approx(costs.batch_ns(reads), rel=0.01)


def reads_per_packet(queues, poll, walk_caches=True, aged=True, per_ack=3):
    """Page-table reads for each 4 KiB packet and its share of an ACK, every page unmapped after.

    ``queues`` rings of 256 pages, and as many for ACKs; ``poll`` packets between unmaps; ``aged``:
    the allocator has shuffled the IOVAs, as it does in time.
    """
    caches, pages = TranslationCaches(), queues * 2 * 256
    iovas = np.random.default_rng(1).permutation(pages) if aged else np.arange(pages)
    polls = 8192 // poll
    for start in range(0, polls * poll, poll):
        packets = iovas[(np.arange(poll) + start) % pages]
        acks = iovas[(np.arange(-(-poll // per_ack)) + start + pages // 2) % pages]
        where = np.concatenate((packets, acks)) * PAGE
        caches.translate(where)
        caches.invalidate(where, walk_caches=walk_caches)
    counts = caches.counts
    return np.array([counts.iotlb, counts.l1, counts.l2, counts.l3]) / (polls * poll)


def line_rate_share(reads):
    return min(1.0, fs_throughput_gbps(PAGE, reads.sum(), walk("vtd-strict-fs")) / LINE_GBPS)


def test_v5_strict_costs_20_to_65_percent_of_a_100_gbps_line():
    """The size of a poll is ours: 16 packets under 5 flows, 2 where 40 flows share the cores."""
    few, many = reads_per_packet(5, 16), reads_per_packet(40, 2)
    assert few == pytest.approx([1.30, 0.05, 0.05, 0.36], abs=0.1)  # as measured for 5 flows
    assert 0.20 <= 1 - line_rate_share(few) < 1 - line_rate_share(many) <= 0.65


def test_v5_kept_walk_caches_and_contiguous_iovas_reach_the_line_as_fs_does():
    reads = reads_per_packet(5, 64, walk_caches=False, aged=False, per_ack=64)
    assert reads[1] + reads[2] < 0.01 and reads[3] < 0.054
    assert line_rate_share(reads) == 1


def test_v5_lazy_is_within_a_percent_of_off_where_strict_queues_are_one_sixth():
    """16.4 and 2.8 against 16.5 million reads a second (Grace), from one queue of 357 ns."""
    sync_ns = load_costs("smmu-like").sync_ns
    alone_ns, queues = 64 * 1e9 / 16.5e6, 64
    off = closed_loop_rate(queues, alone_ns, 0)
    lazy = closed_loop_rate(queues, alone_ns, sync_ns / 255)
    strict = closed_loop_rate(queues, alone_ns, sync_ns)
    assert off == pytest.approx(16.5e6) and lazy > 0.99 * off
    assert strict == pytest.approx(2.8e6, rel=0.01)


@pytest.mark.parametrize(
    ("size", "write", "read"), [(64, 42.1, 44.1), (128, 48.7, 50.1), (256, 52.9, 53.7)]
)
def test_pcie_gen3_x8_carries_what_pcie_bench_computes(size, write, read):
    assert pcie_write_gbps(size, 57.88) == pytest.approx(write, abs=0.1)
    assert pcie_read_gbps(size, 57.88) == pytest.approx(read, abs=0.1)


def test_serial_server_lets_nobody_be_served_while_another_is():
    server, one_by_one = SerialServer(), SerialServer()
    random = np.random.default_rng(4)
    arrivals = np.sort(random.integers(0, 5000, 100))
    services = random.integers(0, 100, 100)
    done = server.serve(arrivals, services)
    pairs = zip(arrivals.tolist(), services.tolist(), strict=True)
    assert done.tolist() == [one_by_one.serve_one(*pair) for pair in pairs]
    assert (server.busy_ns, server.waited_ns) == (one_by_one.busy_ns, one_by_one.waited_ns)
    assert np.all(done[1:] - done[:-1] >= services[1:])
    with pytest.raises(TimeBackwardsError):
        server.serve(np.array([0]), 1)


def test_closed_loop_scales_until_the_serial_part_is_all_there_is():
    rates = [closed_loop_rate(queues, 900, 100) for queues in (1, 2, 10, 40)]
    assert rates == pytest.approx([1e6, 2e6, 1e7, 1e7])
    with pytest.raises(ModelError):
        closed_loop_rate(0, 1, 1)


def test_nonsense_costs_are_refused():
    with pytest.raises(ModelError, match="parallelism"):
        WalkCosts(Calibration.FS, 0, 0, 1, 0, 1, 1)
