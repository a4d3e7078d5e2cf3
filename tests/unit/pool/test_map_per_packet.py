# SPDX-License-Identifier: MIT
"""``map_per_packet``: exactly one map and one unmap a buffer, unmapped before the stack reads."""

import numpy as np
import pytest

from pool.buffers import NO_IOVA
from pool.errors import NotOutstandingError, UnknownStrategyError
from pool.interface import Context, PoolConfig
from pool.registry import STRATEGIES, create
from tests.unit.pool.fakes import StrictDma, StrictPages


def make():
    pages = StrictPages()
    dma = StrictDma(pages)
    return create("map_per_packet", pages, dma, PoolConfig(headroom=64)), pages, dma


def test_one_map_and_one_unmap_per_buffer():
    pool, _, dma = make()
    for _ in range(100):
        pool.give(pool.receive(pool.take(64), np.full(64, 60)), Context.NAPI)
    assert (dma.maps, dma.unmaps, pool.counters.single_calls) == (6400, 6400, 6400)


def test_the_device_cannot_reach_a_buffer_that_the_stack_reads():
    pool, _, dma = make()
    got = pool.receive(pool.take(5), np.full(5, 60))
    assert dma.live == {}
    assert got.iovas.tolist() == [NO_IOVA] * 5


def test_an_unused_buffer_is_unmapped_once_when_given_back():
    pool, pages, dma = make()
    pool.give(pool.take(5), Context.TEARDOWN)
    assert (dma.live, pages.live, dma.unmaps) == ({}, set(), 5)


def test_a_buffer_given_twice_is_refused():
    pool, _, _ = make()
    batch = pool.take(1)
    pool.give(batch, Context.NAPI)
    with pytest.raises(NotOutstandingError):
        pool.give(batch, Context.NAPI)


def test_unknown_strategy_lists_those_there_are():
    with pytest.raises(UnknownStrategyError, match=r"map_per_packet, .*page_pool"):
        create("pagepool", StrictPages(), None)


@pytest.mark.parametrize("name", STRATEGIES)
def test_headroom_separates_page_and_first_byte(name):
    pages = StrictPages()
    dma = StrictDma(pages, may_free_mapped=STRATEGIES[name].guarantees.mapped_when_free)
    batch = create(name, pages, dma, PoolConfig(headroom=256)).take(3)
    assert batch.headrooms.tolist() == [256] * 3
    starts = batch.memory - 256
    assert ((starts & 63).tolist(), len(set(starts.tolist()))) == ([0] * 3, 3)
    assert ((batch.iovas - np.uint64(256)) & np.uint64(63)).tolist() == [0] * 3
    assert batch.domains.tolist() == [7] * 3
