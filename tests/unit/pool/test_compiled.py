# SPDX-License-Identifier: MIT
"""Every strategy as machine code does, step for step, what it does as Python."""

import numpy as np
import pytest

from emulator.kernel import packed
from pool.interface import PoolConfig
from pool.registry import STRATEGIES
from tests.support import tiny_host

N = 150
"""Buffers a poll: more than two batches."""


def run(polls, name, compiled):
    """Counts of pool and host, and where the last buffers lay."""
    host, host_record = packed(tiny_host.make(4096))
    config = PoolConfig(pool_size=200, headroom=64, buffer_bytes=1984)
    both = tiny_host.TinyPorts(host)
    pool = STRATEGIES[name](both, both, config)
    pool.state, record = packed(pool.state)
    mem, iova, received = (np.zeros((2, N), np.int64) for _ in range(3))
    lengths = np.arange(60, 60 + N)
    states = (record, host_record) if compiled else (pool.state, host)
    left = polls(*states, 20, N, 3, mem, iova, lengths, received, np.zeros(2, np.int64))
    return {
        "left": left,
        "counters": pool.counters.as_dict(),
        "host": host.c.tolist(),
        "places": mem.tolist(),
        "addresses": iova.tolist(),
    }


@pytest.mark.parametrize("name", STRATEGIES)
def test_compiled_and_interpreted_strategy_count_and_lend_the_same(name):
    compiled = run(tiny_host.polls, name, True)
    interpreted = run(tiny_host.polls.py_func, name, False)
    assert compiled == interpreted
    assert compiled["left"] == 0
    assert compiled["counters"]["taken"] == compiled["counters"]["given"] > N
    allocs, frees, maps, unmaps, *_, misuses = compiled["host"]
    assert misuses == 0
    assert (allocs, maps) == (frees, unmaps)
    assert maps > 0
