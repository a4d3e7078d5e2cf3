# SPDX-License-Identifier: MIT
"""The timeline: what is in it is what happened. Interpreted, so nothing is compiled for it."""

import json
from collections import Counter
from dataclasses import replace

import pytest

from testbed.twin.interpreted import run_interpreted
from testbed.twin.scenario import Consumer, Driver, Traffic
from testbed.twin_trace import TraceError, trace_twin
from tests.unit.twin.results import scenario

SMALL = Driver(ring=64, pool_size=64)
FULL = Traffic(first_poll=64)
"""All polls are full, the first as well."""


def events_of(polls=6, **more):
    return json.loads(trace_twin(scenario(**more), polls))["traceEvents"]


@pytest.fixture(scope="module")
def mapped():
    return events_of(strategy="map_per_packet", driver=SMALL, traffic=FULL)


def slices(events, name):
    return [event for event in events if event["ph"] == "X" and event["name"] == name]


def test_it_has_the_polls_asked_for_and_a_map_and_an_unmap_for_each_packet(mapped):
    counts = Counter(event["name"] for event in mapped if event["ph"] == "X")
    assert counts["poll"] == 6
    assert counts["unmap"] == 6 * 64
    assert counts["map"] == 64 + 6 * 64  # the ring is filled first
    assert counts["invalidate"] == 6 * 64


def test_its_times_are_those_of_a_run_that_nobody_watched(mapped):
    packets = 6 * 64
    unseen = scenario("map_per_packet", driver=SMALL, traffic=FULL)
    quiet = run_interpreted(replace(unseen, packets=packets))
    shown = sum(event["dur"] for event in slices(mapped, "invalidate")) * 3000  # cycles at 3 GHz
    inside = quiet.cycles["invalidation"] * packets
    # A run also unmaps the ring when it ends; the timeline stops before.
    assert shown / inside == pytest.approx(packets / (packets + 64), rel=1e-6)


def test_slices_of_a_track_nest_and_do_not_run_backwards(mapped):
    by_track = {}
    for event in mapped:
        if event["ph"] == "X":
            by_track.setdefault(event["tid"], []).append((event["ts"], -event["dur"]))
    for spans in by_track.values():
        ends = []
        for start, dur in sorted(spans):
            while ends and ends[-1] <= start + 1e-6:
                ends.pop()
            assert not ends or start - dur <= ends[-1] + 1e-6
            ends.append(start - dur)


def test_unmaps_name_the_address_that_was_mapped(mapped):
    known = {event["args"]["iova"] for event in slices(mapped, "map")}
    assert {event["args"]["iova"] for event in slices(mapped, "unmap")} <= known


def test_held_buffers_and_the_cpu_that_frees_them_are_shown():
    consumer = Consumer(kind="socket", hold_us=20)
    events = events_of(strategy="page_pool", driver=SMALL, consumer=consumer, polls=12)
    held = [e["args"]["value"] for e in events if e["ph"] == "C" and e["name"] == "held, queue 0"]
    assert max(held) >= 64
    assert 1 in {event["tid"] for event in slices(events, "give back")}
    names = {e["args"]["name"] for e in events if e["ph"] == "M" and e["name"] == "thread_name"}
    assert names == {"CPU 0, polls queue 0", "CPU 1, frees"}


def test_without_an_iommu_no_map_is_shown_and_each_queue_has_a_track():
    driver = replace(SMALL, queues=2)
    events = events_of(strategy="page_pool", preset="passthrough", driver=driver)
    assert not slices(events, "map")
    assert {event["tid"] for event in slices(events, "poll")} == {0, 2}


@pytest.mark.parametrize(("polls", "after"), [(0, 0), (5001, 0), (1, -1)])
def test_a_timeline_without_bounds_is_refused(polls, after):
    with pytest.raises(TraceError, match="polls"):
        trace_twin(scenario(), polls, after)
