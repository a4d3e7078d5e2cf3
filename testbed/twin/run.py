# SPDX-License-Identifier: MIT
"""Runs a twin from its first buffer to its last: the order in which queues get their turn."""

from __future__ import annotations

import heapq
from collections.abc import Callable

from pool.counters import ALLOCATIONS, RELEASED
from testbed.twin import queue as q
from testbed.twin.poll import BEGIN, FINISH, RUN, drive
from testbed.twin.queue import FOR_EVER
from testbed.twin.result import TwinResult, measure
from testbed.twin.scenario import TwinScenario
from testbed.twin.teardown import let_everything_end, live_mappings
from testbed.twin.world import World, build

CHUNK = 1 << 21
"""Packets between two reports of progress, with one queue."""

Progress = Callable[[int], None]


def run_twin(scenario: TwinScenario, progress: Progress | None = None) -> TwinResult:
    """What the scenario leads to. ``progress`` is told how many packets are done.

    Raises:
        NotApplicableError: the strategy cannot work on that IOMMU.
        TrafficError: the packets cannot be had.
    """
    world = build(scenario)
    return run_world(world, progress)


def run_world(world: World, progress: Progress | None = None) -> TwinResult:
    """The same for a world at time 0."""
    tell = progress or (lambda done: None)
    fill(world)
    if len(world.queues) == 1:
        _run_alone(world, tell)
    else:
        _run_in_turns(world, tell)
    return close(world)


def fill(world: World) -> None:
    """Brings the interfaces up: every ring is filled."""
    for number, (pool, queue) in enumerate(zip(world.pools, world.queues, strict=True)):
        world.host.clock[0] = world.clocks[number]
        drive(*world.records(number), BEGIN, 0, 0.0)
        queue.n[q.INFLIGHT_FIRST] = pool.state.c[ALLOCATIONS] - pool.state.c[RELEASED]
        world.clocks[number] = float(world.host.clock[0])


def close(world: World) -> TwinResult:
    """Takes the interfaces down, closes the pools, and reads what was found."""
    left = 0
    for number in range(len(world.queues)):
        world.host.clock[0] = max(world.clocks)
        left += drive(*world.records(number), FINISH, 0, 0.0)
        world.clocks[number] = float(world.host.clock[0])
    live = live_mappings(world.host_record)
    let_everything_end(world.host_record)
    return measure(world, live, left)


def _run_alone(world: World, tell: Progress) -> None:
    """One queue needs nobody's turn: all polls in compiled code."""
    wanted, done = world.scenario.packets, 0
    records = world.records(0)
    while done < wanted:
        got = drive(*records, RUN, min(CHUNK, wanted - done), FOR_EVER)
        done += got
        tell(done)
    world.clocks[0] = float(world.host.clock[0])


def _run_in_turns(world: World, tell: Progress) -> None:
    """The queue that is furthest behind polls until it is not: CPUs meet in virtual time."""
    share = -(-world.scenario.packets // len(world.queues))
    turns = [(clock, number) for number, clock in enumerate(world.clocks)]
    heapq.heapify(turns)
    done = 0
    while turns:
        clock, number = heapq.heappop(turns)
        until = turns[0][0] if turns else FOR_EVER
        queue = world.queues[number]
        world.host.clock[0] = clock
        left = share - int(queue.n[q.PACKETS])
        done += drive(*world.records(number), RUN, left, max(until, clock + 1.0))
        world.clocks[number] = float(world.host.clock[0])
        if queue.n[q.PACKETS] < share:
            heapq.heappush(turns, (world.clocks[number], number))
        tell(done)
