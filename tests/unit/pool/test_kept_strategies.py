# SPDX-License-Identifier: MIT
"""Strategies that recycle whole pages: what each costs and keeps, to the page."""

import numpy as np
import pytest

from pool.buffers import NO_IOVA, PAGE_SIZE
from pool.errors import MissingPortError, PoolError, WrongDomainError
from pool.interface import Context, PoolConfig
from pool.pcp_constructor import BATCH
from pool.registry import STRATEGIES, create
from tests.unit.pool.fakes import HotPages, PlainDma, PlainPages, StrictDma, StrictPages


def make(name, size=256, pages=None, **options):
    pages = pages or StrictPages()
    promise = STRATEGIES[name].guarantees
    dma = StrictDma(pages, may_free_mapped=promise.mapped_when_free)
    config = PoolConfig(pool_size=size, headroom=64, buffer_bytes=1984)
    return STRATEGIES[name](pages, dma, config, **options), pages, dma


def receive(pool, batch, length=60):
    return pool.receive(batch, np.full(len(batch), length))


def serve(pool, n, context=Context.NAPI):
    """One poll: take, receive, give."""
    pool.give(receive(pool, pool.take(n)), context)


# array_cache: thread row T2


def test_array_cache_costs_no_atomic_and_no_map_on_its_own_cpu():
    pool, pages, dma = make("array_cache")
    for _ in range(100):
        serve(pool, 64)
    assert (pool.counters.atomics, dma.maps, dma.unmaps, pages.calls) == (0, 64, 0, [64])
    assert pool.counters.single_calls == 64


def test_array_cache_unmaps_and_puts_what_does_not_fit():
    pool, pages, dma = make("array_cache", size=40)
    serve(pool, 64)
    assert (pool.counters.cache_full, pool.counters.atomics) == (24, 24)
    assert (dma.unmaps, len(pages.live)) == (24, 40)


def test_array_cache_loses_every_page_that_another_cpu_frees():
    pool, pages, dma = make("array_cache")
    for _ in range(10):
        serve(pool, 64, Context.REMOTE)
    assert (dma.maps, dma.unmaps, pool.counters.remote_frees) == (640, 640, 640)
    assert pages.live == set()


def test_array_cache_counts_what_a_packet_leaves_of_its_page():
    pool, _, _ = make("array_cache")
    pool.receive(pool.take(2), np.array([60, 1514]))
    assert pool.counters.bytes_wasted == 2 * PAGE_SIZE - 1574


# order0_recycle: thread row T5


def test_order0_recycle_hardly_allocates_when_the_stack_is_done_in_time():
    pool, _, dma = make("order0_recycle", size=256)
    for _ in range(100):
        serve(pool, 64)
    assert (pool.counters.single_calls, dma.maps, dma.unmaps) == (64, 64, 0)
    assert (pool.counters.reused, pool.counters.atomics) == (6336, 2 * 6400)


def test_order0_recycle_is_stopped_by_one_packet_at_the_head():
    pool, _, _ = make("order0_recycle", size=256)
    held = receive(pool, pool.take(1))
    for _ in range(3):
        serve(pool, 64)
    assert (pool.counters.reused, pool.counters.busy) == (0, 3)
    pool.give(held, Context.REMOTE)
    serve(pool, 64)
    assert pool.counters.reused == 64


def test_order0_recycle_gives_up_pages_without_room_and_the_device_loses_them():
    pool, _, dma = make("order0_recycle", size=40)
    got = receive(pool, pool.take(64))
    assert (pool.counters.fifo_full, dma.unmaps) == (24, 24)
    assert got.iovas[40:].tolist() == [NO_IOVA] * 24
    assert dma.reached() == set(got.pfns[:40].tolist())
    pool.give(got, Context.REMOTE)
    assert pool.counters.atomics == 40 + 64


def pinned_per_claimed(name, keep_every):
    """Bytes that stay pinned for each byte claimed, when one packet in so many is held."""
    pool, _, _ = make(name)
    got = receive(pool, pool.take(512))
    hold = np.arange(512) % keep_every == 0
    pool.give(got[~hold], Context.REMOTE)
    return pool.close() * PAGE_SIZE / (pool.counters.outstanding * pool.truesize)


def test_a_held_packet_pins_its_page_in_order0_and_its_block_in_order_3():
    assert pinned_per_claimed("order0_recycle", 16) == 1
    assert pinned_per_claimed("order_fallback", 16) == 16


# pcp_constructor: thread row T8


def test_pcp_constructor_maps_in_batches_and_costs_one_put_page():
    pool, _, dma = make("pcp_constructor", size=256)
    for _ in range(100):
        serve(pool, BATCH)
    assert (dma.maps, dma.unmaps, pool.counters.bulk_calls) == (BATCH, 0, 1)
    assert pool.counters.atomics == 100 * BATCH + 1  # and one zone lock


def test_pcp_constructor_maps_and_unmaps_per_packet_when_another_cpu_frees():
    pool, pages, dma = make("pcp_constructor", size=126)
    for _ in range(100):
        serve(pool, BATCH, Context.REMOTE)
    assert dma.maps == 100 * BATCH
    assert (dma.unmaps, len(pages.live)) == (98 * BATCH, 126)
    assert (pool.counters.refills, pool.counters.drains) == (100, 98)


# direct_window: thread row T12


def test_direct_window_maps_once_and_reaches_all_memory():
    pool, pages, dma = make("direct_window")
    for _ in range(10):
        serve(pool, 64)
    assert (dma.maps, dma.unmaps, dma.mapped_pages) == (1, 0, 4096)
    assert len(dma.reached()) == 4096
    assert pages.live == set()
    assert pool.guarantees.reaches_everything
    pool.close()
    assert dma.live == {}


def test_direct_window_that_is_refused_is_an_error():
    pages = StrictPages()
    dma = StrictDma(pages, refuse={100}, may_free_mapped=True)
    with pytest.raises(PoolError, match="4096 pages"):
        create("direct_window", pages, dma)


# mapping_cache: thread row T7


def test_mapping_cache_hits_while_the_allocator_gives_out_what_was_freed_last():
    pool, _, dma = make("mapping_cache", pages=HotPages())
    for _ in range(100):
        serve(pool, 64)
    assert (dma.maps, dma.unmaps) == (64, 0)
    assert (pool.counters.hits, pool.hit_ratio) == (6336, 0.99)


def test_mapping_cache_misses_when_pages_come_back_after_its_capacity():
    pool, _, dma = make("mapping_cache", size=128)
    for _ in range(128):
        serve(pool, 64)
    assert (pool.counters.hits, dma.maps, dma.unmaps) == (0, 8192, 8064)
    assert pool.counters.evictions == 8064


def test_mapping_cache_lets_the_device_reach_freed_pages_and_says_which():
    pool, pages, dma = make("mapping_cache", size=128)
    serve(pool, 64)
    assert pages.live == set()
    assert dma.reached() == set(pool.cache.stale_pages().tolist())
    assert pool.counters.stale_peak == 64
    pool.close()
    assert dma.live == {}


def test_mapping_cache_of_a_closed_pool_keeps_nothing_that_comes_late():
    pool, _, dma = make("mapping_cache")
    batch = pool.take(3)
    assert pool.close() == 3
    pool.give(batch, Context.REMOTE)
    assert (pool.closed, dma.live) == (True, {})


def test_mapping_cache_ends_the_least_recently_unmapped_first():
    pool, _, dma = make("mapping_cache", size=2)
    batch = pool.take(3)
    for row in (1, 0, 2):
        pool.give(receive(pool, batch[row : row + 1]), Context.NAPI)
    assert dma.reached() == {int(batch.pfns[0]), int(batch.pfns[2])}


def test_mapping_cache_does_not_evict_what_was_mapped_again():
    pool, _, dma = make("mapping_cache", size=8, pages=HotPages())
    for _ in range(300):
        serve(pool, 4)
    assert (dma.maps, dma.unmaps) == (4, 0)
    assert len(pool.cache.stale_pages()) == 4
    batch = pool.take(4)
    assert len(pool.cache.stale_pages()) == 0
    pool.give(batch, Context.NAPI)


# shadow_copy


def test_shadow_copy_copies_each_packet_and_maps_nothing_more():
    pool, _, dma = make("shadow_copy")
    for _ in range(10):
        serve(pool, 64)
    assert (dma.maps, dma.unmaps) == (64, 0)
    assert (pool.counters.copies, pool.counters.bytes_copied) == (640, 38_400)
    assert pool.counters.atomics == 640


def test_shadow_copy_moves_the_bytes_to_pages_the_device_never_reached():
    pool, pages, dma = make("shadow_copy")
    batch = pool.take(2)
    got = pool.receive(batch, np.array([60, 1514]))
    assert pages.copied == [
        [batch.memory[0], got.memory[0], 60],
        [batch.memory[1], got.memory[1], 1514],
    ]
    assert dma.reached().isdisjoint(got.pfns.tolist())
    assert got.iovas.tolist() == [NO_IOVA] * 2


def test_shadow_copy_posts_only_what_it_can_copy():
    pool, _, _ = make("shadow_copy", pages=StrictPages(10))
    assert len(pool.take(6)) == 4
    assert pool.counters.unreserved == 0
    assert len(pool.take(6)) == 0
    assert pool.counters.unreserved == 4


def test_shadow_copy_allocates_for_a_buffer_that_was_not_received():
    pool, pages, _ = make("shadow_copy")
    for _ in range(10):
        pool.give(pool.take(64), Context.NAPI)
    assert (pool.counters.single_calls, pool.counters.atomics, len(pages.live)) == (128, 0, 128)
    assert pool.close() == 0
    assert pages.live == set()


# contiguous_iova


def test_contiguous_iova_maps_and_invalidates_once_per_64_scattered_pages():
    pages = StrictPages()
    pages.free = pages.free[::2] + pages.free[1::2]
    pool, _, dma = make("contiguous_iova", pages=pages)
    batch = pool.take(128)
    assert set(np.diff(batch.iovas[:64]).tolist()) == {PAGE_SIZE}
    assert set(np.diff(batch.pfns[:64]).tolist()) == {2}
    pool.give(receive(pool, batch), Context.NAPI)
    assert (dma.maps, dma.unmaps, pool.counters.unmapped_pages) == (2, 2, 128)
    assert pages.live == set()


def test_contiguous_iova_keeps_given_pages_until_the_device_is_done_with_the_descriptor():
    pool, pages, dma = make("contiguous_iova")
    batch = pool.take(64)
    pool.give(receive(pool, batch[:63]), Context.NAPI)
    assert (len(pages.live), len(dma.pte)) == (64, 64)
    assert (pool.counters.read_while_mapped, pool.counters.parked) == (63, 63)
    last = receive(pool, batch[63:])
    assert (dma.pte, pages.live, last.iovas.tolist()) == ({}, set(last.pfns.tolist()), [NO_IOVA])


def test_contiguous_iova_frees_a_late_page_whose_descriptors_first_frame_is_in_use_again():
    pool, pages, _ = make("contiguous_iova", pages=StrictPages(64))
    batch = receive(pool, pool.take(64))
    pool.give(batch[:63], Context.NAPI)
    assert pool.take(1).pfns[0] == batch.pfns[0]
    pool.give(batch[63:], Context.REMOTE)
    assert (pool.counters.parked, len(pages.live)) == (0, 63)


def test_contiguous_iova_does_not_free_what_is_read_because_it_waited_once_before():
    pool, pages, _ = make("contiguous_iova", pages=StrictPages(64))
    batch = pool.take(64)
    pool.give(receive(pool, batch[:63]), Context.NAPI)
    pool.give(receive(pool, batch[63:]), Context.NAPI)
    receive(pool, pool.take(64))
    assert (pool.counters.parked, len(pages.live)) == (63, 64)


def test_contiguous_iova_counts_no_reference_for_pages_that_the_stack_reads_while_they_are_mapped():
    pool, pages, _ = make("contiguous_iova")
    batch = pool.take(64)
    early, late = receive(pool, batch[:2]), receive(pool, batch[2:63])
    assert pool.counters.references == 63
    pool.give(early, Context.REMOTE)
    assert (pool.counters.references, len(pages.live)) == (63 + 2, 64)
    last = receive(pool, batch[63:])  # the range ends: 2 pages are freed, 61 are let go of
    assert (pool.counters.references, len(pages.live)) == (63 + 2 + 61, 62)
    pool.give(late, Context.REMOTE)
    pool.give(last, Context.NAPI)
    assert (pool.counters.references, pool.counters.atomics) == (126, 126 + 64)
    assert pages.live == set()


# bulk_map: thread row T10


def test_bulk_map_maps_and_unmaps_other_than_once_per_sixteen_pages():
    pool, pages, dma = make("bulk_map")
    batch = pool.take(64)
    assert (dma.maps, pool.counters.bulk_calls, pool.counters.single_calls) == (4, 4, 0)
    got = receive(pool, batch[:56])  # three groups and half of one
    assert (dma.unmaps, pool.counters.read_while_mapped) == (3, 8)
    assert (got.iovas == np.uint64(NO_IOVA)).tolist() == [True] * 48 + [False] * 8
    pool.give(got, Context.NAPI)
    assert len(pages.live) == 16  # the half is mapped: none of it is free
    pool.give(receive(pool, batch[56:]), Context.NAPI)
    assert (dma.unmaps, pages.live, pool.counters.references) == (4, set(), 16)


def test_bulk_map_needs_a_dma_api_that_joins_pages():
    pages = StrictPages()
    dma = StrictDma(pages)
    pool = create("bulk_map", pages, PlainDma(dma))
    pool.give(pool.take(20), Context.TEARDOWN)
    assert (dma.maps, dma.unmaps, pool.counters.maps, pool.counters.unmaps) == (32, 16, 32, 16)
    assert pool.close() == 0
    assert (dma.live, pages.live) == ({}, set())


# zero_copy_domain: thread row T16


def test_zero_copy_domain_copies_nothing_and_maps_each_page_once():
    pool, _, dma = make("zero_copy_domain")
    for _ in range(100):
        serve(pool, 64, Context.REMOTE)
    assert (pool.counters.copies, dma.maps, dma.unmaps, pool.counters.atomics) == (0, 256, 0, 0)


def test_zero_copy_domain_refuses_the_page_of_another_application_on_the_same_device():
    mine, pages, dma = make("zero_copy_domain", cross_domain=1)
    other = STRATEGIES["zero_copy_domain"](pages, dma, PoolConfig(), cross_domain=2)
    batch = other.take(3)
    with pytest.raises(WrongDomainError, match="domain 2"):
        mine.give(batch, Context.REMOTE)
    assert (mine.counters.refused, mine.counters.given) == (3, 0)
    other.give(batch, Context.REMOTE)


def test_zero_copy_domain_starves_the_application_that_returns_nothing():
    pool, pages, _ = make("zero_copy_domain", size=100)
    assert (len(pool.take(64)), len(pool.take(64))) == (64, 36)
    assert (pool.counters.starved, len(pages.live)) == (28, 100)


# scatterlist_cache: thread row T18


def test_scatterlist_cache_maps_a_command_once_and_then_never():
    pool, _, dma = make("scatterlist_cache")
    for _ in range(10):
        serve(pool, 16)
    assert (dma.maps, dma.mapped_pages, dma.unmaps) == (1, 16, 0)
    assert (pool.counters.set_misses, pool.counters.set_hits) == (1, 9)


def test_scatterlist_cache_keeps_the_drivers_opaque_with_the_set():
    pool, _, _ = make("scatterlist_cache")
    first, second = pool.take(16), pool.take(16)
    assert [set(b.opaques.tolist()) for b in (first, second)] == [{1}, {2}]
    pool.give(first, Context.REMOTE)
    assert set(pool.take(16).opaques.tolist()) == {1}


def test_scatterlist_cache_has_lists_as_long_as_its_sets():
    pool, _, _ = make("scatterlist_cache")
    pool.take(64)
    assert (pool.table_bytes, pool.table_bytes_at_maximum) == (4 * 16 * 32, 4 * 128 * 32)


def test_scatterlist_cache_does_not_reuse_a_set_while_one_buffer_is_held():
    pool, _, _ = make("scatterlist_cache")
    batch = pool.take(16)
    pool.give(batch[1:], Context.NAPI)
    assert set(pool.take(16).opaques.tolist()) == {2}


def test_scatterlist_cache_maps_page_by_page_when_the_dma_api_cannot_join():
    pages = StrictPages()
    dma = StrictDma(pages)
    pool = create("scatterlist_cache", pages, PlainDma(dma))
    pool.take(16)
    assert dma.maps == 16


# what the twin puts a price on


@pytest.mark.parametrize(
    ("name", "context", "references", "ring_ops"),
    [
        ("page_pool", Context.NAPI, 0, 0),
        ("page_pool", Context.REMOTE, 0, 640 + 576),
        ("map_per_packet", Context.NAPI, 0, 0),
        ("array_cache", Context.REMOTE, 0, 0),
        ("order0_recycle", Context.NAPI, 2 * 640, 0),
        ("half_page_flip", Context.REMOTE, 64 + 640, 0),
        ("bulk_map", Context.NAPI, 0, 0),
        ("order_fallback", Context.NAPI, 10 * (4 + 60), 0),  # the last put of a block frees it
        ("dma_pool", Context.NAPI, 0, 64 + 2 * 640),  # the list is made of 64 first
        ("mempool", Context.NAPI, 0, 256 + 256),  # populated, and one fill
        ("pcp_constructor", Context.REMOTE, 0, 0),
        ("zero_copy_domain", Context.NAPI, 0, 0),
        ("zero_copy_domain", Context.REMOTE, 0, 640 + 512),
        ("scatterlist_cache", Context.NAPI, 0, 40 + 36),  # sets of 16
    ],
)
def test_references_and_entries_of_shared_stores_are_counted(name, context, references, ring_ops):
    pool, _, _ = make(name)
    for _ in range(10):
        serve(pool, 64, context)
    assert (pool.counters.references, pool.counters.ring_ops) == (references, ring_ops)
    assert pool.counters.references <= pool.counters.atomics


@pytest.mark.parametrize(
    "name", ["map_per_packet", "array_cache", "mapping_cache", "direct_window"]
)
def test_the_first_call_for_a_page_that_fails_is_the_last(name):
    pool, _, _ = make(name, pages=StrictPages(100))
    assert len(pool.take(300)) == 100
    assert pool.counters.single_calls == 101


# ports


@pytest.mark.parametrize("name", ["direct_window", "contiguous_iova", "shadow_copy"])
def test_a_missing_port_is_named_when_the_pool_is_made(name):
    pages = StrictPages()
    with pytest.raises(MissingPortError, match=f"{name}: Plain"):
        create(name, PlainPages(pages), PlainDma(StrictDma(pages)))
