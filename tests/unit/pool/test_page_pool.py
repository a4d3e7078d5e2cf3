# SPDX-License-Identifier: MIT
"""``page_pool`` against what net/core/page_pool.c does, page by page."""

from collections import deque

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pool import ring
from pool.buffers import BufferBatch
from pool.errors import NotOutstandingError, PoolClosedError, PoolError, WrongDomainError
from pool.interface import Context, Direction, PoolConfig
from pool.page_pool import PagePool
from tests.unit.pool.fakes import StrictDma, StrictPages


def make(size=1024, total=8192, refuse=(), **options):
    pages = StrictPages(total)
    dma = StrictDma(pages, refuse=refuse)
    return PagePool(pages, dma, PoolConfig(pool_size=size), **options), pages, dma


class OneByOne:
    """The kernel's functions for one page each, on frame numbers."""

    def __init__(self, size, frames):
        self.cache, self.frames = [], deque(frames)
        self.ring, self.head, self.tail, self.prod = [None] * size, 0, 0, 0
        self.batch = 16 if size // 2 >= 16 else 1
        counters = ["fast", "slow", "empty", "refill", "cache_full", "ring_full"]
        counters += ["recycled_cache", "recycled_ring"]
        self.stats = dict.fromkeys(counters, 0)
        self.released = []

    def consume(self):
        pfn = self.ring[self.head]
        if pfn is None:
            return None
        self.head += 1
        if self.head - self.tail >= self.batch or self.head >= len(self.ring):
            self.ring[self.tail : self.head] = [None] * (self.head - self.tail)
            self.tail = self.head
        if self.head >= len(self.ring):
            self.head = self.tail = 0
        return pfn

    def alloc(self):
        if self.cache:
            self.stats["fast"] += 1
            return self.cache.pop()
        if self.ring[self.head] is None:
            self.stats["empty"] += 1
            self.cache = [self.frames.popleft() for _ in range(64)]
            self.stats["slow"] += 1
            return self.cache.pop()
        while len(self.cache) < 64 and (pfn := self.consume()) is not None:
            self.cache.append(pfn)
        self.stats["refill"] += 1
        return self.cache.pop()

    def put(self, pfn, direct):
        if direct and len(self.cache) < 128:
            self.stats["recycled_cache"] += 1
            self.cache.append(pfn)
            return
        self.stats["cache_full"] += direct
        if self.ring[self.prod] is not None:
            self.stats["ring_full"] += 1
            self.released.append(pfn)
            return
        self.ring[self.prod] = pfn
        self.prod = (self.prod + 1) % len(self.ring)
        self.stats["recycled_ring"] += 1


@settings(deadline=None, max_examples=150)
@given(
    size=st.sampled_from([1, 8, 31, 32, 64, 200]),
    steps=st.lists(st.tuples(st.integers(0, 150), st.sampled_from(["take", "napi", "remote"]))),
)
def test_batches_do_what_single_pages_do_in_the_kernel(size, steps):
    pool, pages, _ = make(size, total=100_000)
    kernel = OneByOne(size, range(16, 100_016))
    out = BufferBatch.empty()
    for n, what in steps:
        if what == "take":
            batch = pool.take(n)
            assert batch.pfns.tolist() == [kernel.alloc() for _ in range(n)]
            out = BufferBatch.concat([out, batch])
            continue
        back, out = out[:n], out[n:]
        pool.give(back, Context.NAPI if what == "napi" else Context.REMOTE)
        for pfn in back.pfns.tolist():
            kernel.put(pfn, what == "napi")
    assert {key: getattr(pool.counters, key) for key in kernel.stats} == kernel.stats
    assert pool.counters.released == len(kernel.released)
    assert not pages.live & set(kernel.released)


def test_a_page_is_mapped_when_allocated_and_at_no_other_time():
    pool, pages, dma = make()
    for _ in range(1000):
        pool.give(pool.take(64), Context.NAPI)
    assert (dma.maps, dma.unmaps, pages.calls) == (64, 0, [64])


def test_remote_returns_cost_one_lock_each_and_bulk_returns_one_per_sixteen():
    pool, _, _ = make()
    pool.give(pool.take(64), Context.REMOTE)
    bulk, _, _ = make(return_bulk=16)
    bulk.give(bulk.take(64), Context.REMOTE)
    assert (pool.counters.atomics, bulk.counters.atomics) == (64, 4)


def test_napi_returns_cost_no_atomic():
    pool, _, _ = make()
    pool.give(pool.take(64), Context.NAPI)
    assert pool.counters.atomics == 0


def test_full_ring_unmaps_and_frees():
    pool, pages, dma = make(size=8)
    pool.give(pool.take(64), Context.REMOTE)
    assert (pool.counters.ring_full, dma.unmaps, len(pages.live)) == (56, 56, 8)


def test_bulk_return_counts_a_full_ring_once_per_bulk():
    pool, _, _ = make(size=40, return_bulk=16)
    pool.give(pool.take(64), Context.REMOTE)
    assert (pool.counters.recycled_ring, pool.counters.ring_full) == (40, 2)
    assert pool.counters.released == 24


def test_a_refused_map_frees_its_page_and_shortens_the_refill():
    pool, pages, _ = make(total=64, refuse={16, 17})
    assert len(pool.take(62)) == 62
    assert pool.counters.map_errors == 2
    assert not pages.live & {16, 17}


def test_out_of_memory_gives_a_short_batch_not_a_hang():
    pool, _, _ = make(total=100)
    assert len(pool.take(300)) == 100
    assert len(pool.take(1)) == 0


def test_destroy_waits_for_pages_in_flight_and_ends_with_no_mapping():
    pool, pages, dma = make()
    batch = pool.take(10)
    assert pool.close() == 10
    assert len(dma.live) == 10
    pool.give(batch, Context.NAPI)  # lands in the ring: the cache is not used any more
    assert (len(dma.live), pool.closed) == (10, False)
    assert pool.close() == 0
    assert (dma.live, pages.live, pool.closed) == ({}, set(), True)


def test_with_tracking_destroy_unmaps_pages_that_are_still_out():
    pool, pages, dma = make(dma_tracking=True)
    batch = pool.take(10)
    assert pool.close() == 10
    assert (dma.live, len(pages.live)) == ({}, 10)
    pool.give(batch, Context.REMOTE)
    assert pool.close() == 0
    assert (dma.unmaps, pages.live) == (64, set())


def test_no_sync_for_device_after_destroy():
    pool, _, dma = make()
    batch = pool.take(10)
    pool.close()
    before = dma.synced_for_device
    pool.give(batch, Context.REMOTE)
    assert dma.synced_for_device == before == 64


def test_recycling_syncs_for_the_device():
    pool, _, dma = make()
    pool.give(pool.take(10), Context.NAPI)
    assert dma.synced_for_device == 64 + 10


def test_take_after_close_is_refused():
    pool, _, _ = make()
    pool.close()
    with pytest.raises(PoolClosedError):
        pool.take(1)


@pytest.mark.parametrize("rows", [[0, 0], [1]], ids=["twice in a batch", "already back"])
def test_a_page_given_twice_is_refused_and_changes_nothing(rows):
    pool, _, _ = make()
    batch = pool.take(2)
    pool.give(batch[1:], Context.NAPI)
    with pytest.raises(NotOutstandingError, match="0x"):
        pool.give(batch[np.array(rows)], Context.NAPI)
    assert pool.counters.outstanding == 1
    pool.give(batch[:1], Context.NAPI)


def test_a_page_of_another_domain_is_refused():
    pool, pages, _ = make()
    other = PagePool(pages, StrictDma(pages, domain=8), PoolConfig())
    with pytest.raises(WrongDomainError, match="domain 8"):
        pool.give(other.take(1), Context.NAPI)


def test_frames_never_seen_are_refused():
    pool, _, _ = make()
    batch = pool.take(1)
    for frame in (-1, 10**9):
        stranger = BufferBatch.uniform(
            np.array([frame]), batch.iovas, length=1, offset=0, headroom=0, domain=7
        )
        with pytest.raises(NotOutstandingError):
            pool.give(stranger, Context.NAPI)


def test_a_ring_is_full_while_consumed_entries_are_not_cleared():
    queue = ring.make(64)
    assert [ring.produce(queue, pfn) for pfn in range(65)] == [True] * 64 + [False]
    assert [ring.consume(queue) for _ in range(15)] == list(range(15))
    assert ring.room(queue) == 0
    ring.consume(queue)
    assert ring.room(queue) == 16


@pytest.mark.parametrize(
    "config",
    [
        {"pool_size": 0},
        {"headroom": -1},
        {"buffer_bytes": 0},
        {"headroom": 2049, "buffer_bytes": 2048},
        {"direction": Direction.TO_DEVICE},
    ],
)
def test_impossible_configurations_are_refused(config):
    with pytest.raises(PoolError):
        PoolConfig(**config)
