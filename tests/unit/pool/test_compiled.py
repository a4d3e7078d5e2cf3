# SPDX-License-Identifier: MIT
"""Every strategy as machine code does, step for step, what it does as Python."""

import numpy as np
import pytest

from pool.interface import PoolConfig
from pool.registry import STRATEGIES
from tests.support import tiny_host

N = 150
"""Buffers a poll: more than two batches."""


def run(polls, name):
    """Counts of pool and host, and where the last buffers lay."""
    host = tiny_host.make(4096)
    config = PoolConfig(pool_size=200, headroom=64, buffer_bytes=1984)
    both = tiny_host.TinyPorts(host)
    pool = STRATEGIES[name](both, both, config)
    mem, iova, received = (np.zeros((2, N), np.int64) for _ in range(3))
    lengths = np.arange(60, 60 + N)
    left = polls(pool.state, host, 20, N, 3, mem, iova, lengths, received)
    return {
        "left": left,
        "counters": pool.counters.as_dict(),
        "host": host.c.tolist(),
        "places": mem.tolist(),
        "addresses": iova.tolist(),
    }


@pytest.mark.parametrize("name", STRATEGIES)
def test_compiled_and_interpreted_strategy_count_and_lend_the_same(name):
    compiled, interpreted = run(tiny_host.polls, name), run(tiny_host.polls.py_func, name)
    assert compiled == interpreted
    assert compiled["left"] == 0
    assert compiled["counters"]["taken"] == compiled["counters"]["given"] > N
    allocs, frees, maps, unmaps, *_, misuses = compiled["host"]
    assert misuses == 0
    assert (allocs, maps) == (frees, unmaps)
    assert maps > 0
