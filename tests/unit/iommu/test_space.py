# SPDX-License-Identifier: MIT
import errno

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from emulator.iommu.errors import (
    BeyondMemoryError,
    NoPermissionError,
    OverlapError,
    PartialUnmapError,
    TooManyMappingsError,
    UnalignedError,
    WrapAroundError,
    ZeroSizeError,
)
from emulator.iommu.space import SMALL_MAX, AddressSpace

PAGE = 4096
MIB = 1 << 20


class FakeMemory:
    def __init__(self, size=64 * MIB, index=0):
        self.array = np.zeros(size, np.uint8)
        self.index = index


def one(space, iova, length=1, write=False):
    found = space.translate(np.array([iova], np.uint64), np.array([length]), write)
    assert found.all_ok == bool(found.ok[0])
    return (int(found.memory[0]), int(found.offsets[0])) if found.ok[0] else None


@pytest.fixture
def space():
    return AddressSpace("nic0")


@pytest.mark.parametrize(
    ("iova", "size", "offset", "error", "code"),
    [
        (0, 0, 0, ZeroSizeError, errno.EINVAL),
        ((1 << 64) - PAGE, 2 * PAGE, 0, WrapAroundError, errno.EINVAL),
        (PAGE + 1, PAGE, 0, UnalignedError, errno.EINVAL),
        (PAGE, PAGE - 1, 0, UnalignedError, errno.EINVAL),
        (PAGE, PAGE, 7, UnalignedError, errno.EINVAL),
        (PAGE, PAGE, 64 * MIB, BeyondMemoryError, errno.EINVAL),
    ],
)
def test_bad_map_is_refused_with_its_errno_and_changes_nothing(
    space, iova, size, offset, error, code
):
    with pytest.raises(error) as caught:
        space.map(iova, size, FakeMemory(), offset, True, True, 0)
    assert caught.value.errno == code
    assert len(space) == 0 and list(space) == []


def test_map_without_permission_or_beyond_the_limit_is_refused():
    space = AddressSpace("nic0", max_mappings=1)
    with pytest.raises(NoPermissionError):
        space.map(0, PAGE, None, 0, False, False, 0)
    space.map(0, PAGE, None, 0, True, False, 0)
    with pytest.raises(TooManyMappingsError) as caught:
        space.map(PAGE, PAGE, None, 0, True, False, 0)
    assert caught.value.errno == errno.ENOSPC


@pytest.mark.parametrize("first", [PAGE, 4 * PAGE, 4 * MIB])
@pytest.mark.parametrize("second", [PAGE, 4 * PAGE, 4 * MIB])
def test_overlap_of_small_and_big_mappings_is_refused(space, first, second):
    memory = FakeMemory()
    space.map(8 * MIB, first, memory, 0, True, True, 0)
    for iova in (8 * MIB, 8 * MIB + first - PAGE, 8 * MIB + PAGE - second):
        with pytest.raises(OverlapError) as caught:
            space.map(iova, second, memory, 0, True, True, 0)
        assert caught.value.errno == errno.EEXIST
    space.map(8 * MIB + first, second, memory, 0, True, True, 0)
    space.map(8 * MIB - second, second, memory, 0, True, True, 0)


@pytest.mark.parametrize("size", [2 * PAGE, 4 * MIB])
def test_unmap_that_cuts_a_mapping_is_refused_and_removes_nothing(space, size):
    space.map(0, PAGE, None, 0, True, True, 0)
    space.map(16 * MIB, size, None, 0, True, True, 0)
    for iova, length in ((16 * MIB, PAGE), (16 * MIB + PAGE, size), (0, 16 * MIB + PAGE)):
        with pytest.raises(PartialUnmapError) as caught:
            space.unmap(iova, length, 0)
        assert caught.value.errno == errno.EINVAL
    assert len(space) == 2


def test_unmap_of_nothing_and_of_several_returns_what_was_there(space):
    assert space.unmap(0, 0xFFFFFFFF01100000 & ~0xFFF, 0) == []
    made = [space.map(i * 3 * MIB, PAGE << (i % 3), None, 0, True, True, 0) for i in range(9)]
    made.append(space.map(1 << 60, 8 * MIB, None, 0, True, True, 0))
    made.append(space.map((1 << 64) - PAGE, PAGE, None, 0, True, True, 0))
    assert space.unmap(0, 1 << 64, 0) == made
    assert len(space) == 0
    assert one(space, 0) is None and one(space, (1 << 64) - 1) is None


def test_sweep_costs_the_mappings_it_removes_not_the_pages_it_covers(space):
    class CountingSet(set):
        looks = 0

        def __contains__(self, item):
            CountingSet.looks += 1
            return super().__contains__(item)

    for i in range(2000):
        space.map((1 << 40) + i * PAGE, PAGE, None, 0, True, True, 0)
    space._chunks = {key: CountingSet(pages) for key, pages in space._chunks.items()}
    assert space.unmap(0x1000, 0xFFFFFF000, 0) == []
    assert CountingSet.looks == 0
    assert len(space.unmap((1 << 40) + 8 * PAGE, PAGE * 8, 0)) == 8


def test_generation_rises_even_when_an_iova_is_used_again(space):
    first = space.map(0, PAGE, None, 0, True, True, 5)
    space.unmap(0, PAGE, 6)
    second = space.map(0, PAGE, None, 0, True, True, 7)
    assert second.generation > first.generation and second.mapped_ns == 7


@pytest.mark.parametrize("size", [PAGE, 8 * PAGE, SMALL_MAX, 8 * MIB])
def test_translation_ends_exactly_where_the_mapping_does(space, size):
    space.map(1 << 50, size, FakeMemory(index=3), 2 * MIB, True, False, 0)
    base = 1 << 50
    assert one(space, base, size) == (3, 2 * MIB)
    assert one(space, base + size - 1, 1) == (3, 2 * MIB + size - 1)
    assert one(space, base + size - 1, 2) is None
    assert one(space, base - 1, 1) is None
    assert one(space, base, 0) is None and one(space, base, -1) is None
    assert one(space, base, 1, write=True) is None


def test_access_over_adjacent_mappings_is_cut_exactly_and_refused_whole_with_a_hole(space):
    memory = FakeMemory()
    space.map(0, PAGE, memory, 5 * PAGE, True, True, 0)
    space.map(PAGE, PAGE, memory, 2 * PAGE, True, True, 0)
    space.map(2 * PAGE, 4 * MIB, None, 0, True, True, 0)
    pieces = space.split(PAGE - 10, 2 * PAGE, True)
    assert [(p.iova, p.length) for p in pieces] == [
        (PAGE - 10, 10),
        (PAGE, PAGE),
        (2 * PAGE, PAGE - 10),
    ]
    assert [p.offset for p in pieces[:2]] == [6 * PAGE - 10, 2 * PAGE]
    assert one(space, PAGE - 10, 20) is None
    space.unmap(PAGE, PAGE, 0)
    assert space.split(PAGE - 10, 2 * PAGE, True) is None
    assert space.split((1 << 64) - 1, 2, True) is None


PAGES = 48
SIZES = st.sampled_from([1, 1, 1, 2, 3, 8])


class SpaceAgainstBytes(RuleBasedStateMachine):
    """A dict from every page to (offset, permissions): the naive truth. Big mappings start at 1."""

    scale = PAGE

    def __init__(self):
        super().__init__()
        self.space = AddressSpace("model")
        self.memory = FakeMemory(PAGES * 8 * self.scale, 1)
        self.truth = {}
        self.ends = {}

    @rule(
        page=st.integers(0, PAGES), size=SIZES, offset=st.integers(0, PAGES), rw=st.integers(1, 3)
    )
    def map(self, page, size, offset, rw):
        pages = range(page, page + size)
        args = (page * self.scale, size * self.scale, self.memory, offset * self.scale)
        if any(p in self.truth for p in pages):
            with pytest.raises(OverlapError):
                self.space.map(*args, bool(rw & 1), bool(rw & 2), 0)
            return
        self.space.map(*args, bool(rw & 1), bool(rw & 2), 0)
        self.ends[page] = page + size
        for i, p in enumerate(pages):
            self.truth[p] = (offset + i, rw, page)

    @rule(page=st.integers(0, PAGES), size=st.integers(1, PAGES))
    def unmap(self, page, size):
        hit = sorted({self.truth[p][2] for p in range(page, page + size) if p in self.truth})
        if any(start < page or self.ends[start] > page + size for start in hit):
            with pytest.raises(PartialUnmapError):
                self.space.unmap(page * self.scale, size * self.scale, 0)
            return
        removed = self.space.unmap(page * self.scale, size * self.scale, 0)
        assert [m.iova // self.scale for m in removed] == hit
        for start in hit:
            for p in range(start, self.ends.pop(start)):
                del self.truth[p]

    @rule(
        accesses=st.lists(
            st.tuples(st.integers(0, PAGES), st.integers(0, 20), st.integers(1, 3 * 20)),
            min_size=1,
            max_size=20,
        ),
        write=st.booleans(),
    )
    def access(self, accesses, write):
        unit = self.scale // 20
        rows = [(p * self.scale + o * unit, n * unit) for p, o, n in accesses]
        found = self.space.translate(
            np.array([r[0] for r in rows], np.uint64), np.array([r[1] for r in rows]), write
        )
        for i, (iova, length) in enumerate(rows):
            pages = range(iova // self.scale, (iova + length - 1) // self.scale + 1)
            seen = [self.truth.get(p) for p in pages]
            allowed = all(s is not None and s[1] & (2 if write else 1) for s in seen)
            pieces = self.space.split(iova, length, write)
            assert (pieces is not None) == allowed
            assert found.ok[i] == (allowed and len({s[2] for s in seen}) == 1)
            if found.ok[i]:
                assert found.offsets[i] == seen[0][0] * self.scale + iova % self.scale
                assert found.memory[i] == 1
            if pieces:
                assert sum(p.length for p in pieces) == length
                for piece in pieces:
                    offset = self.truth[piece.iova // self.scale][0]
                    assert piece.offset == offset * self.scale + piece.iova % self.scale
        assert found.all_ok == found.ok.all()

    @rule()
    def unmap_all(self):
        assert len(self.space.unmap_all(0)) == len(self.ends)
        self.truth.clear()
        self.ends.clear()

    @invariant()
    def counts_agree(self):
        assert len(self.space) == len(self.ends)
        assert [m.iova for m in self.space] == sorted(m.iova for m in self.space)


class BigSpaceAgainstBytes(SpaceAgainstBytes):
    # 1 MiB a unit: sizes 1 and 2 are kept by page, 3 and 8 as extents.
    scale = MIB

    @invariant()
    def counts_agree(self):
        assert len(self.space) == len(self.ends)


SpaceAgainstBytes.TestCase.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None
)
BigSpaceAgainstBytes.TestCase.settings = settings(
    max_examples=15, stateful_step_count=25, deadline=None
)
TestSpaceAgainstBytes = SpaceAgainstBytes.TestCase
TestBigSpaceAgainstBytes = BigSpaceAgainstBytes.TestCase
