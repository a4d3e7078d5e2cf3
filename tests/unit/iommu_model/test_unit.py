# SPDX-License-Identifier: MIT
"""The whole IOMMU: one source interpreted and compiled, and each preset's promises."""

import numpy as np
import pytest

from emulator.iommu.model import places, unit
from emulator.iommu.model.costs import load_costs
from emulator.kernel import compiled

MAP, UNMAP, MANY, TRANSLATE, ADVANCE, DRAIN = range(6)
CPUS = 3
SPACE = 4096


def flatten(state):
    if isinstance(state, tuple):
        return [array for part in state for array in flatten(part)]
    return [state]


def play(io, steps, clocks, live, sizes, out):
    """Random steps on ``CPUS`` CPUs; ``live`` holds mapped pfns, ``out`` what each step gave."""
    held = 0
    for i in range(len(steps)):
        kind, cpu, pages, pick, wait = steps[i]
        clocks[cpu] += wait
        now = clocks[cpu]
        io.n[places.ENDED] = 0
        if kind == MAP and held < len(live):
            pfn, now = unit.map_iova(io, cpu, now, pages)
            out[i, 0] = pfn
            if pfn >= 0:
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
    return held


compiled_play = compiled(play)


def random_steps(seed, length):
    random = np.random.default_rng(seed)
    kinds = random.choice(6, length, p=[0.38, 0.25, 0.05, 0.28, 0.035, 0.005])
    cpus = random.integers(0, CPUS, length)
    pages = random.choice([1, 1, 1, 2, 3, 8, 40, 600], length)
    waits = random.choice([0, 10, 700, 100_000, 3_000_000], length)
    return np.stack((kinds, cpus, pages, random.integers(0, 1 << 20, length), waits), 1)


def played(player, name, seed, batch=1):
    io = unit.make_iommu(load_costs(name), CPUS, SPACE)
    io.par[places.BATCH_INVALIDATION] = batch
    steps = random_steps(seed, 3000)
    out = np.zeros((len(steps), 2))
    live, sizes = np.zeros(500, np.int64), np.zeros(500, np.int64)
    held = player(io, steps, np.zeros(CPUS), live, sizes, out)
    return io, held, live, sizes, out


NAMES = ["passthrough", "vtd-strict", "vtd-strict-fast-iova", "vtd-lazy", "vtd-lazy-fast-iova"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("batch", [1, 4])
def test_interpreted_and_compiled_do_the_same(name, batch):
    one, other = (played(player, name, 11, batch) for player in (play, compiled_play))
    assert one[1] == other[1]
    for mine, theirs in zip(flatten(one), flatten(other), strict=True):
        assert np.array_equal(mine, theirs)
