# SPDX-License-Identifier: MIT
"""The whole IOMMU: one source interpreted and compiled, and what each preset promises."""

from dataclasses import replace

import numpy as np
import pytest

from emulator.iommu.model import places, unit
from emulator.iommu.model.costs import Invalidation, cost_names, load_costs
from emulator.iommu.model.errors import ModelError
from emulator.iommu.model.invalidation import QUEUE_TIMEOUT_NS
from emulator.kernel import compiled

MAP, UNMAP, MANY, TRANSLATE, ADVANCE, DRAIN = range(6)
CPUS = 3
SPACE = 4096


def flatten(state):
    if isinstance(state, tuple):
        return [array for part in state for array in flatten(part)]
    return [state]


def play(io, steps, clocks, live, sizes, out):
    """Steps on some CPUs; ``live`` holds mapped pfns; ``out``: result, end, ranges that ended."""
    held = 0
    for i in range(len(steps)):
        kind, cpu, pages, pick, wait = steps[i]
        clocks[cpu] += wait
        now = clocks[cpu]
        io.n[places.ENDED] = 0
        if kind == MAP and held < len(live):
            pfn, now = unit.map_iova(io, cpu, now, pages)
            out[i, 0] = pfn
            if pfn != unit.FULL:
                live[held] = pfn
                sizes[held] = pages
                held += 1
        elif kind == UNMAP and held > 0:
            place = pick % held
            now = unit.unmap_iova(io, cpu, now, live[place], sizes[place])
            held -= 1
            live[place] = live[held]
            sizes[place] = sizes[held]
        elif kind == MANY and held > 0:
            count = 0
            while count < 8 and held > count and sizes[held - 1 - count] == sizes[held - 1]:
                count += 1
            held -= count
            now = unit.unmap_iova_many(io, cpu, now, count, live[held : held + count], sizes[held])
        elif kind == TRANSLATE and held > 0:
            place = pick % held
            out[i, 0] = unit.translate(io, live[place] + pick % sizes[place], 12)
        elif kind == ADVANCE:
            unit.advance(io, now)
        elif kind == DRAIN:
            now = unit.drain(io, now)
        clocks[cpu] = now
        out[i, 1] = now
        out[i, 2] = io.n[places.ENDED]
    return held


compiled_play = compiled(play)


def random_steps(seed, length, cpus=CPUS):
    random = np.random.default_rng(seed)
    kinds = random.choice(6, length, p=[0.38, 0.25, 0.05, 0.28, 0.035, 0.005])
    pages = random.choice([1, 1, 1, 2, 3, 8, 40, 600], length)
    waits = random.choice([0, 10, 700, 100_000, 3_000_000], length)
    picks = random.integers(0, 1 << 20, length)
    return np.stack((kinds, random.integers(0, cpus, length), pages, picks, waits), 1)


def preset(name):
    if name == "single-queue":
        return replace(
            load_costs("vtd-lazy-fast-iova"),
            invalidation=Invalidation.SINGLE_QUEUE,
            queue_entries=40,
        )
    if name == "lazy-small":
        return replace(load_costs("vtd-lazy-fast-iova"), queue_entries=5)
    return load_costs(name)


def played(player, name, steps, batch=1):
    io = unit.make_iommu(preset(name), CPUS, SPACE)
    io.par[places.BATCH_INVALIDATION] = batch
    out, live = np.zeros((len(steps), 3)), np.zeros((2, 500), np.int64)
    held = player(io, steps, np.zeros(CPUS), live[0], live[1], out)
    return io, held, live, out


NAMES = [*cost_names(), "single-queue", "lazy-small"]


@pytest.mark.parametrize("name", NAMES)
def test_interpreted_and_compiled_do_the_same(name):
    for seed, batch in ((11, 1), (12, 4)):
        steps = random_steps(seed, 1500)
        one, other = (played(player, name, steps, batch) for player in (play, compiled_play))
        assert one[1] == other[1]
        for mine, theirs in zip(flatten(one), flatten(other), strict=True):
            assert np.array_equal(mine, theirs)


@pytest.mark.parametrize("name", NAMES)
def test_each_unmapped_range_ends_once_and_only_identity_never_ends(name):
    io, held, _, out = played(compiled_play, name, random_steps(13, 20_000))
    ended = out[:, 2].sum()
    io.n[places.ENDED] = 0
    unit.drain(io, 1e12)
    identity = unit.is_identity(io)
    assert ended + io.n[places.ENDED] == (0 if identity else io.n[places.UNMAPS])
    assert io.n[places.MAPS] - io.n[places.UNMAPS] == held
    assert io.n[places.ENDED_LOST] == 0 and (identity or io.n[places.REFUSED] > 0)


@pytest.mark.parametrize("name", NAMES)
def test_time_of_a_lone_cpu_is_the_sum_of_its_categories(name):
    steps = random_steps(14, 20_000, cpus=1)
    io, _, _, out = played(compiled_play, name, steps)
    spent = out[-1, 1] - steps[:, 4].sum()
    categories = io.f[[places.IOVA_NS, places.PAGE_TABLE_NS, places.INVALIDATION_NS]].sum()
    assert spent == pytest.approx(categories + io.f[places.WAIT_NS])
    # Alone, it waits for nobody but its own timer, and for a hypervisor's ceiling.
    waits = io.n[places.TIMER_FLUSHES] > 0 or io.par[places.CEILING_PER_S] > 0
    assert waits or io.f[places.WAIT_NS] == 0


@pytest.mark.parametrize("name", ["vtd-strict", "smmu-like", "power-tce"])
def test_strict_range_has_ended_when_the_unmap_returns_and_its_iova_is_free(name):
    costs = load_costs(name)
    io = unit.make_iommu(costs, 1)
    pfn, now = unit.map_iova(io, 0, 0.0, 1)
    if costs.caches:
        assert [unit.translate(io, pfn, 12) for _ in range(2)] == [4, 0]
    done = unit.unmap_iova(io, 0, now, pfn, 1)
    assert io.n[places.ENDED] == 1 and io.ended[0].tolist() == [pfn, 1]
    assert now < io.ended_ns[0] <= done
    if costs.caches:
        assert unit.translate(io, pfn, 12) == 4
        assert unit.map_iova(io, 0, done, 1)[0] == pfn
    assert io.n[places.INVALIDATIONS] == (name != "power-tce")
    assert unit.drain(io, done) == done


def test_prices_of_a_map_and_a_strict_unmap_are_those_of_the_preset():
    costs = load_costs("vtd-strict-fast-iova")
    io = unit.make_iommu(costs, 1)
    pfn, now = unit.map_iova(io, 0, 5.0, 1)
    assert now == 5 + costs.iova.tree_alloc_ns + costs.map_ns
    done = unit.unmap_iova(io, 0, now, pfn, 1)
    assert done - now == costs.unmap_ns + costs.sync_ns + costs.iova.magazine_free_ns
    _, again = unit.map_iova(io, 0, done, 1)
    assert again - done == costs.iova.magazine_alloc_ns + costs.map_ns
    _, later = unit.map_iova(io, 0, again, 64)
    own = costs.iova.tree_alloc_ns + costs.map_ns + 63 * costs.map_next_page_ns
    assert later - again == own and costs.map_next_page_ns > 0


def lazy_ring(maps):
    io = unit.make_iommu(load_costs("vtd-lazy-fast-iova"), 2)
    return io, [unit.map_iova(io, 0, 0.0, 1)[0] for _ in range(maps)]


def test_lazy_range_is_reachable_and_its_iova_not_given_out_until_a_full_queue_is_flushed():
    io, pfns = lazy_ring(256)
    unit.translate(io, pfns[0], 12)
    now = 0.0
    for pfn in pfns[:255]:
        now = unit.unmap_iova(io, 0, now, pfn, 1)
    assert io.n[places.ENDED] == 0 and unit.translate(io, pfns[0], 12) == 0
    assert unit.map_iova(io, 0, now, 1)[0] not in pfns
    begun = now
    now = unit.unmap_iova(io, 0, now, pfns[255], 1)
    assert io.n[places.ENDED] == 255 and io.ended[:255, 0].tolist() == pfns[:255]
    assert io.n[places.FULL_FLUSHES] == io.n[places.INVALIDATIONS] == 1
    sync_ns = load_costs("vtd-lazy-fast-iova").sync_ns
    unmap_ns = load_costs("vtd-lazy-fast-iova").unmap_ns
    assert (io.ended_ns[:255] == begun + unmap_ns + sync_ns).all()
    assert unit.map_iova(io, 0, now, 1)[0] in pfns[:255]


def test_lazy_flush_clears_iotlb_and_walk_caches_by_itself():
    io, pfns = lazy_ring(3)
    unit.translate(io, pfns[0], 12)
    unit.unmap_iova(io, 0, 0.0, pfns[1], 1)
    assert unit.translate(io, pfns[0], 12) == 0
    unit.advance(io, 2.0 * QUEUE_TIMEOUT_NS)
    assert unit.translate(io, pfns[0], 12) == 4


def test_lazy_timer_fires_at_its_own_time_on_no_callers_clock():
    io, pfns = lazy_ring(1)
    queued = unit.unmap_iova(io, 1, 0.0, pfns[0], 1)
    unit.advance(io, queued + QUEUE_TIMEOUT_NS - 1)
    assert io.n[places.ENDED] == 0
    waited = io.f[places.WAIT_NS]
    unit.advance(io, 5.0 * QUEUE_TIMEOUT_NS)
    sync_ns = load_costs("vtd-lazy-fast-iova").sync_ns
    assert io.ended_ns[: io.n[places.ENDED]].tolist() == [queued + QUEUE_TIMEOUT_NS + sync_ns]
    assert io.f[places.TIMER_NS] > sync_ns and io.f[places.WAIT_NS] == waited
    assert io.f[places.LONGEST_STALE_NS] == QUEUE_TIMEOUT_NS + sync_ns
    assert unit.map_iova(io, 1, 6.0 * QUEUE_TIMEOUT_NS, 1)[0] == pfns[0]


def test_drain_ends_all_that_is_queued_on_every_cpu_and_stops_the_timer():
    io, pfns = lazy_ring(10)
    for number, pfn in enumerate(pfns):
        unit.unmap_iova(io, number % 2, float(number * 1000), pfn, 1)
    done = unit.drain(io, 20_000.0)
    assert io.n[places.ENDED] == 10 and (io.ended_ns[:10] < done).all()
    unit.advance(io, 1e9)
    assert io.n[places.INVALIDATIONS] == 1 and io.n[places.TIMER_FLUSHES] == 0


def test_batched_invalidation_covers_its_ranges_and_no_more():
    counts = {}
    for batch in (1, 64):
        io = unit.make_iommu(load_costs("vtd-strict-fs"), 1)
        io.par[places.BATCH_INVALIDATION] = batch
        pfns = np.array([unit.map_iova(io, 0, 0.0, 1)[0] for _ in range(130)])
        unit.unmap_iova_many(io, 0, 0.0, 130, pfns, 1)
        assert io.n[places.ENDED] == io.n[places.UNMAPS] == 130
        counts[batch] = io.n[places.INVALIDATIONS]
    assert counts == {1: 130, 64: 3}


def test_kept_walk_caches_survive_an_invalidation():
    for keep, reads in ((False, 4), (True, 1)):
        io = unit.make_iommu(load_costs("vtd-strict"), 1)
        io.par[places.FORGET_WALKS] = not keep
        pfn, _ = unit.map_iova(io, 0, 0.0, 1)
        unit.translate(io, pfn, 12)
        unit.unmap_iova(io, 0, 0.0, pfn, 1)
        assert unit.translate(io, pfn, 12) == reads


@pytest.mark.parametrize("pages", [512, 1024, 1 << 18])
def test_unmap_forgets_large_pages_and_leaves_their_neighbours(pages):
    io = unit.make_iommu(load_costs("vtd-strict"), 1)
    shift = 30 if pages == 1 << 18 else 21
    outside, _ = unit.map_iova(io, 0, 0.0, pages)
    pfn, _ = unit.map_iova(io, 0, 0.0, pages)
    for place in (pfn, outside):
        unit.translate(io, place, shift)
        unit.translate(io, place + pages - 1, 12)
    unit.unmap_iova(io, 0, 0.0, pfn, pages)
    assert unit.translate(io, outside, shift) == unit.translate(io, outside + pages - 1, 12) == 0
    assert unit.translate(io, pfn, shift) > 0 and unit.translate(io, pfn + pages - 1, 12) > 0


@pytest.mark.parametrize(
    ("name", "shared_ns"), [("vtd-strict", "sync_ns"), ("smmu-like", "sync_ns")]
)
def test_cpus_that_unmap_at_once_wait_for_each_others_invalidation(name, shared_ns):
    costs = load_costs(name)
    io = unit.make_iommu(costs, 4)
    pfns = [unit.map_iova(io, cpu, cpu * 1e6, 1)[0] for cpu in range(4)]
    io.f[places.WAIT_NS] = 0
    for cpu, pfn in enumerate(pfns):
        unit.unmap_iova(io, cpu, 1e7, pfn, 1)
    assert np.diff(io.ended_ns[:4]).tolist() == [getattr(costs, shared_ns)] * 3
    assert io.f[places.WAIT_NS] >= (1 + 2 + 3) * costs.sync_ns


def test_tce_calls_are_counted_priced_and_limited_for_all_cpus_together():
    io = unit.make_iommu(load_costs("power-tce"), 2)
    tce = load_costs("power-tce").tce
    first, done = unit.map_iova(io, 0, 0.0, 1)
    _, other = unit.map_iova(io, 1, 0.0, 1)
    assert other - done == pytest.approx(1000) and io.f[places.WAIT_NS] == pytest.approx(1000)
    unit.map_iova(io, 0, 1e6, 600)
    assert (io.n[places.PUT_CALLS], io.n[places.INDIRECT_CALLS]) == (2, 2)
    unit.unmap_iova(io, 0, 2e6, first, 1)
    assert io.n[places.STUFF_CALLS] == 1 and io.n[places.INVALIDATIONS] == 0
    assert io.f[places.PAGE_TABLE_NS] == 5 * tce.put_ns + 601 * tce.entry_ns


@pytest.mark.parametrize("name", ["passthrough", "power-direct-window"])
def test_identity_costs_nothing_ends_nothing_and_reads_nothing(name):
    io = unit.make_iommu(load_costs(name), 1)
    assert unit.map_iova(io, 0, 3.0, 8) == (unit.SAME_AS_FRAME, 3.0)
    assert unit.translate(io, 77, 12) == 0
    assert unit.unmap_iova(io, 0, 3.0, 77, 8) == 3.0 and io.n[places.ENDED] == 0
    assert not io.f[: places.TIMER_AT].any() and unit.drain(io, 4.0) == 4.0


@pytest.mark.parametrize("name", ["vtd-strict", "vtd-strict-fast-iova", "power-tce"])
def test_full_space_is_refused_and_counted_and_takes_maps_again_after_an_unmap(name):
    io = unit.make_iommu(load_costs(name), 1, 65)
    pfns = [unit.map_iova(io, 0, 0.0, 1)[0] for _ in range(65)]
    assert len(set(pfns[:64])) == 64 and pfns[64] == unit.FULL and min(pfns[:64]) == 1
    assert (io.n[places.MAPS], io.n[places.REFUSED]) == (64, 1)
    unit.unmap_iova(io, 0, 0.0, pfns[7], 1)
    assert unit.map_iova(io, 0, 0.0, 1)[0] == pfns[7]


def test_ended_ranges_that_nobody_takes_out_are_counted_not_written_over():
    io = unit.make_iommu(load_costs("vtd-strict-fast-iova"), 1)
    room = len(io.ended)
    for _ in range(room + 2):
        pfn, _ = unit.map_iova(io, 0, 0.0, 1)
        unit.unmap_iova(io, 0, 0.0, pfn, 1)
    assert io.n[places.ENDED] == room and io.n[places.ENDED_LOST] == 2


def test_impossible_units_are_refused():
    for cpus, space in ((0, SPACE), (1, 1)):
        with pytest.raises(ModelError, match="needs 1 CPU and 2 pages"):
            unit.make_iommu(load_costs("vtd-strict"), cpus, space)
