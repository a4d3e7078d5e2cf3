# SPDX-License-Identifier: MIT
import io

import numpy as np
import pytest

from emulator.ledger.events import CHUNK_EVENTS, EventKind, Timeline


def fill(timeline, batches):
    """Alternates batches of 1000 accesses and single maps; returns the IOVAs in order."""
    iovas, at = [], 0
    for _ in range(batches):
        batch = np.arange(at, at + 1000, dtype=np.uint64)
        timeline.add_batch(at, 2, EventKind.READ, batch, np.full(1000, 64))
        timeline.add(at, 1, EventKind.MAP, at + 1000, 4096, 9, 8)
        iovas += [*batch.tolist(), at + 1000]
        at += 1001
    return iovas


def test_events_survive_the_turn_of_chunks_in_order():
    timeline = Timeline()
    assert fill(timeline, 40) == timeline.to_array()["iova"].tolist()
    assert len(timeline) == 40 * 1001 and timeline.dropped == 0
    last = timeline.to_array()[-1]
    assert (last["kind"], last["device"], last["generation"], last["extra"]) == (1, 1, 9, 8)


def test_counts_stay_exact_when_events_are_dropped_or_not_recorded():
    bounded = Timeline(keep_events=CHUNK_EVENTS)
    iovas = fill(bounded, 60)
    assert len(bounded) <= 2 * CHUNK_EVENTS and bounded.dropped + len(bounded) == len(iovas)
    assert bounded.to_array()["iova"].tolist() == iovas[bounded.dropped :]
    unrecorded = Timeline(accesses=False)
    fill(unrecorded, 60)
    assert len(unrecorded) == 60
    for timeline in (bounded, unrecorded):
        assert timeline.counts[EventKind.READ] == 60_000
        assert timeline.counts[EventKind.MAP] == 60


def test_spill_gets_every_event_once_and_nothing_is_kept():
    spilled = []
    timeline = Timeline(spill=spilled.append)
    iovas = fill(timeline, 40)
    timeline.flush()
    timeline.flush()
    assert np.concatenate(spilled)["iova"].tolist() == iovas
    assert timeline.spilled == len(iovas) and len(timeline) == 0


def test_exports_read_back():
    timeline = Timeline()
    timeline.add(5, 0, EventKind.UNMAP_REQUEST, (1 << 64) - 4096, 1 << 64)
    timeline.add(6, 0, EventKind.MARK, extra=timeline.name_number("released"))
    loaded = np.load(io.BytesIO(timeline.to_npz(["nic0"])))
    assert loaded["events"]["iova"][0] == (1 << 64) - 4096
    assert loaded["devices"].tolist() == ["nic0"] and loaded["marks"].tolist() == ["released"]
    rows = timeline.to_csv(["nic0"]).decode().splitlines()
    assert rows[1] == f"5,nic0,UNMAP_REQUEST,0xfffffffffffff000,{(1 << 64) - 1},0,0"


@pytest.mark.parametrize("kind", list(EventKind))
def test_every_kind_can_be_written(kind):
    timeline = Timeline()
    timeline.add(1, 0, kind)
    assert kind.name in timeline.to_csv(["nic0"]).decode()
