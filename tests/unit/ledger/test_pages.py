# SPDX-License-Identifier: MIT
"""The ledger's page tables against plain dictionaries: what is posted, what is alive."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.iommu.mapping import Mapping, target_of
from emulator.ledger.live import BIG_PAGES, LiveSet
from emulator.ledger.posted import NEAR_PAGES, PostedPages, buffer_pages

PAGE = 4096
EDGE = NEAR_PAGES * PAGE
MEMORY: Any = SimpleNamespace(index=3, array=np.zeros(0, np.uint8))

#: Around 0 and around 4 GiB, where flat tables end.
starts = st.one_of(st.integers(0, 8 * PAGE), st.integers(EDGE - 4 * PAGE, EDGE + 4 * PAGE))
buffers = st.lists(st.tuples(starts, st.integers(1, 3 * PAGE)), min_size=1, max_size=8)


def columns(rows: list[tuple[int, int]]) -> tuple[Any, Any]:
    return np.array([r[0] for r in rows], np.uint64), np.array([r[1] for r in rows], np.int64)


@settings(max_examples=60, deadline=None)
@given(steps=st.lists(st.tuples(st.booleans(), buffers), max_size=12))
def test_posted_pages_count_as_a_dictionary_would(
    steps: list[tuple[bool, list[tuple[int, int]]]],
) -> None:
    posted, truth = PostedPages(), Counter[int]()
    for add, rows in steps:
        iovas, lengths = columns(rows)
        (posted.add if add else posted.remove)(iovas, lengths)
        for page in buffer_pages(iovas, lengths):
            truth[page] = max(truth[page] + (1 if add else -1), 0)
    alive = {page for page, count in truth.items() if count}
    assert set(posted) == alive
    assert len(posted) == len(alive)
    assert posted.total() == truth.total()
    assert all((page in posted) == (page in alive) for page in truth)
    assert all(posted[page] == truth[page] for page in truth)


def mapping(page: int, pages: int, frame: int, rights: str = "rw", remote: bool = False) -> Mapping:
    memory = None if remote else MEMORY
    return Mapping(
        page * PAGE, pages * PAGE, memory, frame * PAGE, "r" in rights, "w" in rights, page, 0
    )


@pytest.fixture
def live() -> LiveSet:
    live = LiveSet()
    for entry in (
        mapping(10, 1, 77),
        mapping(11, 2, 90, "r"),
        mapping(20, 1, 5, remote=True),
        mapping(NEAR_PAGES - BIG_PAGES, 2 * BIG_PAGES, 1000, "w"),
        mapping(1 << 30, BIG_PAGES + 1, 0, remote=True),
    ):
        live.add(entry)
    return live


@pytest.mark.parametrize(
    ("at", "length", "write", "target", "fine"),
    [
        (10 * PAGE, PAGE, True, 77 * PAGE, True),
        (10 * PAGE + 5, 7, False, 77 * PAGE + 5, True),
        (10 * PAGE, PAGE, True, 78 * PAGE, False),
        (10 * PAGE, PAGE + 1, False, 77 * PAGE, False),
        (11 * PAGE, 1, True, 90 * PAGE, False),
        (12 * PAGE, 1, False, 91 * PAGE, True),
        (13 * PAGE, 1, False, 92 * PAGE, False),
        (10 * PAGE, 0, False, 77 * PAGE, False),
        (20 * PAGE + 9, 1, True, None, True),
        (EDGE - 5, 10, True, (1000 + BIG_PAGES) * PAGE - 5, True),
        (EDGE - 5, 10, True, (999 + BIG_PAGES) * PAGE - 5, False),
        (EDGE - 5, 10, False, (1000 + BIG_PAGES) * PAGE - 5, False),
        (EDGE + BIG_PAGES * PAGE - 1, 2, True, (1000 + 2 * BIG_PAGES) * PAGE - 1, False),
        ((1 << 42) + 9 * PAGE, PAGE, True, None, True),
        ((1 << 64) - 1, 2, True, 0, False),
    ],
)
def test_access_is_explained_by_the_mapping_that_it_lies_in_and_no_other(
    live: LiveSet, at: int, length: int, write: bool, target: int | None, fine: bool
) -> None:
    iovas, lengths = columns([(at, length)])
    where = target_of(None, 0) if target is None else target_of(MEMORY, target)
    targets = np.array([where], np.int64)
    assert live.explains(iovas, lengths, write, targets) == fine
    # One that is fine before it and one after it must not hide it.
    good = (10 * PAGE, 1)
    iovas, lengths = columns([good, (at, length), good])
    near = target_of(MEMORY, 77 * PAGE)
    assert live.explains(iovas, lengths, write, np.array([near, where, near])) == fine


def test_what_is_gone_explains_nothing_and_holds_nothing(live: LiveSet) -> None:
    for entry in live.mappings():
        at, length = np.array([entry.iova], np.uint64), np.array([1])
        assert live.holds(at, length)
        assert live.remove(entry)
        assert not live.holds(at, length)
        assert not live.explains(at, length, entry.writable, None)
    assert not np.count_nonzero(live.near)
    assert (live.count, live.big, live.owners) == (0, [], {})
