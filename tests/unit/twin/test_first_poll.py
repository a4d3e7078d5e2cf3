# SPDX-License-Identifier: MIT
"""Polls that find as many packets as they may are not in step with blocks of buffers."""

import pytest

from testbed.twin import queue as q
from testbed.twin.interpreted import INTERPRETED, build_interpreted
from testbed.twin.run import fill, run_packets
from testbed.twin.thread.experiment import HELD, scenario, steady

SHARED = ("order_fallback", "bulk_map", "contiguous_iova")
"""Strategies that map several buffers at once, 16 or 64, and unmap them with the last."""


def exposed(strategy, first_poll):
    return steady(strategy, "vtd-strict", traffic__first_poll=first_poll).exposure[HELD]


@pytest.mark.parametrize("strategy", SHARED)
def test_block_that_is_read_while_its_neighbours_are_posted_and_is_not_exposed(strategy):
    assert exposed(strategy, 23) > 0
    assert exposed(strategy, 64) == 0  # in step: what the default must not be


@pytest.mark.parametrize("strategy", ["page_pool", "map_per_packet", "shadow_copy"])
def test_step_that_matters_where_nothing_is_shared(strategy):
    assert exposed(strategy, 23) == exposed(strategy, 64)


def test_stretch_that_ends_within_a_poll_and_puts_the_polls_in_step():
    """1600 packets are 25 full polls: what waits of the last one comes before the next."""
    world = build_interpreted(scenario("page_pool", "vtd-strict"))
    fill(world, INTERPRETED)
    ends = []
    for packets in (23, 1600 - 23, 1, 22, 64):
        run_packets(world, packets, engine=INTERPRETED)
        ends.append(int(world.queues[0].n[q.PENDING_TAIL]) % 64)
    assert ends == [23] * 5
    assert world.queues[0].n[q.PACKETS] == world.queues[0].n[q.PENDING_TAIL] == 1600 + 23 + 64


def test_first_poll_that_takes_more_than_the_budget():
    world = build_interpreted(scenario("page_pool", "vtd-strict", driver__budget=8))
    fill(world, INTERPRETED)
    run_packets(world, 80, engine=INTERPRETED)
    assert world.queues[0].n[q.POLLS] == 10
