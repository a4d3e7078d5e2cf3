# SPDX-License-Identifier: MIT
"""A timeline of a twin for ui.perfetto.dev: Chrome's trace format, a track for each CPU.

The polls to be shown run interpreted: the kernels are plain Python then, and a profile hook sees
each of them begin and end, with the arguments they were called with. So compiled runs pay nothing
for it, and no kernel knows of it.
"""

from __future__ import annotations

import heapq
import json
import math
import sys
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any

from emulator.errors import DmabedError
from emulator.iommu.model import places, unit
from emulator.ledger.columns import book as b
from testbed.twin import host as h
from testbed.twin import poll as p
from testbed.twin import queue as q
from testbed.twin.interpreted import INTERPRETED, interpreted
from testbed.twin.run import fill
from testbed.twin.scenario import TwinScenario
from testbed.twin.world import World, build

POLLS_MAX = 5000
_BEFORE = 1 << 12
"""Packets of a turn before the timeline begins."""

_STEPS: dict[str, str] = {
    "poll": "poll",
    "sleep": "idle",
    "device_writes": "device writes",
    "consume": "stack",
    "give_back": "give back",
    "refill": "refill",
}
"""Kernels of :mod:`testbed.twin.poll` that become slices, and what these are called."""

Event = dict[str, Any]


class TraceError(DmabedError):
    """The timeline asked for cannot be made; the text says why."""


def trace_twin(scenario: TwinScenario, polls: int, after: int = 0) -> str:
    """JSON of the first ``polls`` polls, of all queues together, after ``after`` packets.

    Times are virtual, in us with fractions of a ns. A map or an unmap is a slice with its IOVA and
    pages; within it, waits for others and the invalidation have slices of their own. Counters:
    buffers held and posted, mappings alive and stale.

    Raises:
        TraceError: ``polls`` or ``after`` is out of range.
        NotApplicableError, TrafficError: see :func:`testbed.twin.run.run_twin`.
    """
    if not 1 <= polls <= POLLS_MAX or after < 0:
        raise TraceError(f"{polls} polls after {after} packets: 1 to {POLLS_MAX} polls, from 0 on")
    world = build(scenario)
    recorder = _Recorder(world)
    if after:
        fill(world)
        _advance(world, lambda: _total(world, q.PACKETS) >= after, _compiled)
    played = interpreted(world)
    if not after:
        with recorder:
            fill(played, INTERPRETED)
    last = _total(world, q.POLLS) + polls
    with recorder:
        _advance(played, lambda: _total(world, q.POLLS) >= last, _interpreted, recorder.count)
    return json.dumps({"displayTimeUnit": "ns", "traceEvents": recorder.events()}) + "\n"


def _total(world: World, place: int) -> int:
    return sum(int(queue.n[place]) for queue in world.queues)


def _compiled(world: World, number: int, what: int) -> None:
    p.drive(*world.records(number), what, _BEFORE, q.FOR_EVER)


def _interpreted(played: World, number: int, what: int) -> None:
    """One poll over the same arrays, as plain Python."""
    soon = math.nextafter(float(played.host.clock[0]), math.inf)
    INTERPRETED.drive(*played.records(number), what, played.scenario.driver.budget, soon)


def _advance(
    world: World,
    enough: Callable[[], bool],
    drive: Callable[[World, int, int], None],
    after_each: Callable[[int], None] = lambda number: None,
) -> None:
    """Lets the queue that is furthest behind poll, until it is ``enough``."""
    turns = [(clock, number) for number, clock in enumerate(world.clocks)]
    heapq.heapify(turns)
    while not enough():
        clock, number = heapq.heappop(turns)
        world.host.clock[0] = clock
        drive(world, number, p.RUN)
        world.clocks[number] = float(world.host.clock[0])
        after_each(number)
        heapq.heappush(turns, (world.clocks[number], number))


class _Recorder:
    """Turns what the profile hook sees into events; a context manager around what is recorded."""

    def __init__(self, world: World) -> None:
        self._world, self._host = world, world.host
        self._events: list[Event] = []
        self._open: list[tuple[CodeType, int, float]] = []
        self._before: list[float] = []
        self._enter: dict[CodeType, Callable[[FrameType], None]] = {}
        self._leave: dict[CodeType, Callable[[FrameType, Any], None]] = {}
        for name, title in _STEPS.items():
            self._step(getattr(p, name).__code__, title)
        for kernel, title in ((unit.map_iova, "map"), (unit.unmap_iova, "unmap")):
            self._iommu(kernel.__code__, title)

    def __enter__(self) -> None:
        """From now on kernels are seen."""
        sys.setprofile(self._hook)

    def __exit__(self, *_error: object) -> None:
        """Not any more."""
        sys.setprofile(None)

    def _hook(self, frame: FrameType, kind: str, value: object) -> None:
        if kind == "call" and (enter := self._enter.get(frame.f_code)):
            enter(frame)
        elif kind == "return" and (leave := self._leave.get(frame.f_code)):
            leave(frame, value)

    def _step(self, code: CodeType, title: str) -> None:
        def enter(_frame: FrameType) -> None:
            self._open.append((code, int(self._host.n[h.CPU]), h.now(self._host)))

        def leave(_frame: FrameType, _value: object) -> None:
            _, cpu, start = self._open.pop()
            end = self._end_of(cpu)
            if end > start:
                self._slice(title, cpu, start, end)

        self._enter[code], self._leave[code] = enter, leave

    def _iommu(self, code: CodeType, title: str) -> None:
        def enter(_frame: FrameType) -> None:
            self._before = self._host.io.f[: places.TIMER_NS].tolist()

        def leave(frame: FrameType, value: Any) -> None:  # noqa: ANN401
            given = frame.f_locals
            iova_page, done = value if title == "map" else (given["iova_pfn"], value)
            # ``now`` is reused within the kernel: what it took says when it began.
            took = [a - z for a, z in zip(self._host.io.f.tolist(), self._before, strict=False)]
            start = done - sum(took)
            if done <= start:
                return  # no IOMMU: nothing to see
            cpu = int(given["cpu"])
            pages = int(given["pages"])
            self._slice(title, cpu, start, done, {"iova": hex(iova_page << 12), "pages": pages})
            self._parts(title, cpu, start, took)

        self._enter[code], self._leave[code] = enter, leave

    def _parts(self, title: str, cpu: int, start: float, took: list[float]) -> None:
        """What the time went into, one after the other, in the order in which it is done."""
        iova = (places.IOVA_NS, "IOVA")
        wait = (places.WAIT_NS, "wait for others")
        rest = [(places.PAGE_TABLE_NS, "page table"), wait, (places.INVALIDATION_NS, "invalidate")]
        for place, name in [iova, *rest] if title == "map" else [*rest, iova]:
            if took[place] > 0:
                self._slice(name, cpu, start, start + took[place])
                start += took[place]

    def _end_of(self, cpu: int) -> float:
        host = self._host
        return float(host.clock[0] if cpu % 2 == 0 else max(host.clock[0], host.clock[1 + cpu]))

    def _slice(
        self, name: str, cpu: int, start: float, end: float, more: dict[str, Any] | None = None
    ) -> None:
        event: Event = {"ph": "X", "pid": 1, "tid": cpu, "name": name}
        event |= {"ts": start / 1e3, "dur": (end - start) / 1e3}
        self._events.append(event | ({"args": more} if more else {}))

    def count(self, number: int) -> None:
        """The counters as they are after a poll of queue ``number``."""
        sys.setprofile(None)
        queue, book = self._world.queues[number], self._host.book
        now = float(self._host.clock[0]) / 1e3
        counts = {
            f"held, queue {number}": q.held(queue),
            f"posted, queue {number}": queue.n[q.POSTED] - queue.n[q.DONE],
            "mappings alive": book.n[b.LIVE_NOW],
            "mappings stale": book.n[b.STALE_NOW],
        }
        for name, value in counts.items():
            args = {"value": int(value)}
            self._events.append({"ph": "C", "pid": 1, "name": name, "ts": now, "args": args})
        sys.setprofile(self._hook)

    def events(self) -> list[Event]:
        """All of them, after the names of the tracks."""
        scenario = self._world.scenario
        title = f"{scenario.strategy} under {scenario.preset}"
        names: list[Event] = [
            {"ph": "M", "pid": 1, "name": "process_name", "args": {"name": title}}
        ]
        for cpu in sorted({event["tid"] for event in self._events if "tid" in event}):
            what = f"CPU {cpu}, polls queue {cpu // 2}" if cpu % 2 == 0 else f"CPU {cpu}, frees"
            args = {"name": what}
            names.append({"ph": "M", "pid": 1, "tid": cpu, "name": "thread_name", "args": args})
        return [*names, *self._events]
