# SPDX-License-Identifier: MIT
"""Strategies whose buffers share a page or a block: what each costs and keeps, to the buffer."""

import numpy as np
import pytest

from pool.buffers import NO_IOVA, BufferBatch
from pool.errors import NotOutstandingError, PoolError
from pool.interface import MAX_REFERENCES, Context, PoolConfig
from pool.registry import STRATEGIES
from tests.unit.pool.fakes import StrictDma, StrictPages


def make(
    name, size=256, pages=None, headroom=64, buffer_bytes=1984, references=MAX_REFERENCES, **options
):
    pages = pages or StrictPages()
    dma = StrictDma(pages)
    config = PoolConfig(
        pool_size=size, headroom=headroom, buffer_bytes=buffer_bytes, references=references
    )
    return STRATEGIES[name](pages, dma, config, **options), pages, dma


def receive(pool, batch):
    return pool.receive(batch, np.full(len(batch), 60))


# half_page_flip: thread row T3


@pytest.mark.parametrize(
    ("references", "atomics"),
    [(1, 2 * 6400), (2, 64 + 6400 + 3200), (MAX_REFERENCES, 64 + 6400)],
    ids=["2016", "two at a time", "today"],
)
def test_half_page_flip_costs_other_atomics_than_its_references_and_one_put(references, atomics):
    pool, _, dma = make("half_page_flip", references=references)
    for _ in range(100):
        pool.give(receive(pool, pool.take(64)), Context.NAPI)
    assert pool.counters.atomics == atomics
    assert (pool.counters.flips, pool.counters.failed_flips) == (6400, 0)
    assert (dma.maps, dma.unmaps, pool.counters.single_calls) == (64, 0, 64)


def test_half_page_flip_takes_the_halves_in_turn():
    pool, _, _ = make("half_page_flip")
    offsets = []
    for _ in range(4):
        batch = pool.take(1)
        offsets += batch.offsets.tolist()
        pool.give(receive(pool, batch), Context.REMOTE)
    assert offsets == [64, 2112, 64, 2112]


def test_half_page_flip_fails_while_the_other_half_is_held_and_the_device_loses_the_page():
    pool, _, dma = make("half_page_flip")
    first = receive(pool, pool.take(10))
    assert len(dma.live) == 10
    second = receive(pool, pool.take(10))
    assert (pool.counters.flips, pool.counters.failed_flips) == (10, 10)
    assert (second.iovas.tolist(), dma.live) == ([NO_IOVA] * 10, {})
    pool.give(first, Context.REMOTE)
    assert pool.counters.inflight == 10
    pool.give(second, Context.REMOTE)
    assert pool.counters.inflight == 0
    assert pool.counters.atomics == 10 + 10 + 20  # references taken, dropped, put by the stack


@pytest.mark.parametrize("polls", [1, 2, 4])
def test_half_page_flip_fails_more_as_the_stack_holds_longer(polls):
    pool, _, _ = make("half_page_flip")
    held = []
    for _ in range(12):
        held.append(receive(pool, pool.take(8)))
        if len(held) >= polls:
            pool.give(held.pop(0), Context.REMOTE)
    failed = pool.counters.failed_flips
    assert failed == {1: 0, 2: 48, 4: 48}[polls]


def test_half_page_flip_closed_keeps_pages_that_the_stack_reads_but_not_their_mapping():
    pool, pages, dma = make("half_page_flip")
    got = receive(pool, pool.take(3))
    assert (pool.close(), dma.live, pages.live) == (3, {}, set(got.pfns.tolist()))
    pool.give(got, Context.REMOTE)
    assert (pool.closed, pages.live) == (True, set())


def test_half_page_flip_does_not_flip_for_an_unused_buffer():
    pool, _, _ = make("half_page_flip")
    batch = pool.take(1)
    pool.give(batch, Context.TEARDOWN)
    assert (pool.take(1).offsets.tolist(), pool.counters.flips) == ([64], 0)
    assert pool.counters.atomics == 1  # references to the new page


def test_half_page_flip_cuts_buffers_to_the_half():
    pool, _, _ = make("half_page_flip", headroom=256, buffer_bytes=3000)
    assert pool.take(1).lengths.tolist() == [2048 - 256]


def test_half_page_flip_refuses_a_headroom_that_fills_the_half():
    with pytest.raises(PoolError, match="2048"):
        make("half_page_flip", headroom=2048)


def test_the_same_half_given_twice_is_refused_but_the_other_half_is_not():
    pool, _, _ = make("half_page_flip")
    first = receive(pool, pool.take(1))
    second = receive(pool, pool.take(1))
    assert first.pfns.tolist() == second.pfns.tolist()
    with pytest.raises(NotOutstandingError):
        pool.give(BufferBatch.concat([first, first]), Context.NAPI)
    pool.give(BufferBatch.concat([first, second]), Context.NAPI)
    with pytest.raises(NotOutstandingError):
        pool.give(second, Context.NAPI)


# order_fallback: thread row T4


def test_order_fallback_shares_an_allocation_a_map_and_an_unmap_among_16_buffers():
    pool, _, dma = make("order_fallback")
    batch = pool.take(64)
    pool.give(receive(pool, batch), Context.NAPI)
    assert (pool.counters.single_calls, dma.maps, dma.unmaps) == (4, 4, 4)
    assert (dma.mapped_pages, pool.counters.atomics) == (32, 4 + 64)
    assert pool.blocks == [0, 0, 0, 4]


def test_order_fallback_tries_every_order_when_memory_is_split():
    pool, _, dma = make("order_fallback", pages=StrictPages(max_order=0))
    assert len(pool.take(16)) == 16
    assert pool.blocks == [8, 0, 0, 0]
    assert pool.counters.failed_attempts == 8 * 3  # each block is looked for from the top
    assert pool.counters.single_calls == 8 * 4
    assert dma.maps == 8


def test_order_fallback_uses_the_largest_blocks_there_are():
    pool, _, _ = make("order_fallback", pages=StrictPages(max_order=2))
    pool.take(16)
    assert (pool.blocks, pool.counters.failed_attempts) == ([0, 0, 2, 0], 2)


def test_order_fallback_leaves_a_block_mapped_until_its_last_buffer_is_filled():
    pool, pages, dma = make("order_fallback")
    batch = pool.take(16)
    got = receive(pool, batch[:15])
    pool.give(got, Context.REMOTE)
    assert (len(dma.pte), len(pages.live)) == (8, 8)
    last = receive(pool, batch[15:])
    assert (dma.pte, last.iovas.tolist(), len(pages.live)) == ({}, [NO_IOVA], 8)
    pool.give(last, Context.REMOTE)
    assert pages.live == set()


def test_order_fallback_lets_buffers_cross_pages():
    pool, _, dma = make("order_fallback", buffer_bytes=2900)
    batch = pool.take(10)
    assert (np.diff(batch.memory) == pool.truesize).all()
    ends = batch.iovas + np.uint64(2899)
    assert [dma.place(i) for i in ends.tolist()] == (batch.memory + 2899).tolist()


# dma_pool: thread row T6


def test_dma_pool_costs_two_locked_operations_a_packet_whoever_frees():
    pool, _, dma = make("dma_pool")
    for context in (Context.NAPI, Context.REMOTE) * 50:
        pool.give(receive(pool, pool.take(64)), context)
    assert (pool.counters.atomics, dma.maps, dma.unmaps) == (2 * 6400, 32, 0)


def test_dma_pool_stays_as_large_as_it_ever_was():
    pool, pages, _ = make("dma_pool")
    pool.give(pool.take(500), Context.NAPI)
    for _ in range(5):
        pool.give(pool.take(2), Context.NAPI)
    assert (pool.counters.high_water, len(pages.live)) == (500, 250)


def test_dma_pool_blocks_do_not_cross_pages():
    pool, _, _ = make("dma_pool", buffer_bytes=1400)
    batch = pool.take(64)
    assert (batch.offsets + batch.lengths <= 4096).all()
    assert len(set(batch.pfns.tolist())) == 32


# mempool: thread row T21


def test_mempool_maps_its_huge_pages_once_and_needs_no_atomic_on_its_core():
    pool, _, dma = make("mempool")
    pool.give(receive(pool, pool.take(64)), Context.NAPI)
    warm = pool.counters.atomics
    for _ in range(100):
        pool.give(receive(pool, pool.take(64)), Context.NAPI)
    assert (warm, pool.counters.atomics) == (1, 1)
    assert (dma.maps, dma.mapped_pages, dma.unmaps) == (1, 512, 0)


def test_mempool_moves_bulks_through_the_ring_when_another_core_frees():
    pool, _, _ = make("mempool", size=1024)
    for _ in range(60):
        pool.give(receive(pool, pool.take(64)), Context.REMOTE)
    fills, flushes = pool.counters.ring_fills, pool.counters.ring_flushes
    assert pool.counters.atomics == fills + flushes
    assert (fills, flushes) == (12, 28)


def test_mempool_cannot_take_what_another_cores_cache_has():
    pool, _, _ = make("mempool", size=300)
    pool.give(pool.take(300), Context.REMOTE)
    assert len(pool.take(64)) == 0


def test_mempool_has_no_fallback_without_huge_pages():
    pool, pages, _ = make("mempool", pages=StrictPages(max_order=8))
    assert (len(pool.take(1)), pages.live) == (0, set())
