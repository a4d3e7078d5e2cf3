# SPDX-License-Identifier: MIT
"""Runs a twin from its first buffer to its last: the order in which queues get their turn."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any, NamedTuple

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


class Engine(NamedTuple):
    """The three functions that do the work, see :mod:`testbed.twin.poll` and ``teardown``."""

    drive: Callable[..., int]
    live_mappings: Callable[[Any], int]
    let_everything_end: Callable[[Any], int]


COMPILED = Engine(drive, live_mappings, let_everything_end)
"""What runs unless asked otherwise; see also :mod:`testbed.twin.interpreted`."""


def run_twin(scenario: TwinScenario, progress: Progress | None = None) -> TwinResult:
    """What the scenario leads to. ``progress`` is told how many packets are done.

    Raises:
        NotApplicableError: the strategy cannot work on that IOMMU.
        TrafficError: the packets cannot be had.
    """
    world = build(scenario)
    return run_world(world, progress)


def run_world(
    world: World, progress: Progress | None = None, engine: Engine = COMPILED
) -> TwinResult:
    """The same for a world at time 0."""
    fill(world, engine)
    run_packets(world, world.scenario.packets, progress, engine)
    return close(world, engine)


def run_packets(
    world: World, packets: int, progress: Progress | None = None, engine: Engine = COMPILED
) -> None:
    """So many packets more, on a world whose rings are filled."""
    tell = progress or (lambda done: None)
    if len(world.queues) == 1:
        _run_alone(world, packets, tell, engine)
    else:
        _run_in_turns(world, packets, tell, engine)


def fill(world: World, engine: Engine = COMPILED) -> None:
    """Brings the interfaces up: every ring is filled, and then its link."""
    for number, (pool, queue) in enumerate(zip(world.pools, world.queues, strict=True)):
        world.host.clock[0] = world.clocks[number]
        engine.drive(*world.records(number), BEGIN, 0, 0.0)
        queue.n[q.INFLIGHT_FIRST] = pool.state.c[ALLOCATIONS] - pool.state.c[RELEASED]
        world.clocks[number] = float(world.host.clock[0])
        queue.f[q.NEXT_NS] = world.clocks[number]  # nothing arrives, so nothing is lost, before


def close(world: World, engine: Engine = COMPILED) -> TwinResult:
    """Takes the interfaces down, closes the pools, and reads what was found."""
    left = 0
    for number in range(len(world.queues)):
        world.host.clock[0] = max(world.clocks)
        left += int(engine.drive(*world.records(number), FINISH, 0, 0.0))
        world.clocks[number] = float(world.host.clock[0])
    live = int(engine.live_mappings(world.host_record))
    engine.let_everything_end(world.host_record)
    return measure(world, live, left)


def _run_alone(world: World, wanted: int, tell: Progress, engine: Engine) -> None:
    """One queue needs nobody's turn: all polls in compiled code."""
    done = 0
    records = world.records(0)
    while done < wanted:
        got = engine.drive(*records, RUN, min(CHUNK, wanted - done), FOR_EVER)
        done += got
        tell(done)
    world.clocks[0] = float(world.host.clock[0])


def _run_in_turns(world: World, wanted: int, tell: Progress, engine: Engine) -> None:
    """The queue that is furthest behind polls until it is not: CPUs meet in virtual time."""
    share = -(-wanted // len(world.queues))
    goals = [int(queue.n[q.PACKETS]) + share for queue in world.queues]
    turns = [(clock, number) for number, clock in enumerate(world.clocks)]
    heapq.heapify(turns)
    done = 0
    while turns:
        clock, number = heapq.heappop(turns)
        until = turns[0][0] if turns else FOR_EVER
        queue = world.queues[number]
        world.host.clock[0] = clock
        left = goals[number] - int(queue.n[q.PACKETS])
        done += engine.drive(*world.records(number), RUN, left, max(until, clock + 1.0))
        world.clocks[number] = float(world.host.clock[0])
        if queue.n[q.PACKETS] < goals[number]:
            heapq.heappush(turns, (world.clocks[number], number))
        tell(done)
