# SPDX-License-Identifier: MIT
"""What strategies share that hand out whole pages and map each when it enters the pool.

How a page enters, is lent and leaves, and how that counts. Where pages wait in between, and when
they leave, is what a strategy adds.
"""

from __future__ import annotations

from typing import Protocol

from emulator.kernel import Ints, kernel
from pool import ports, stores
from pool.counters import ATOMICS, RELEASED, SINGLE_CALLS
from pool.ports import Host
from pool.steps import BATCH, State, enter, lend, unmap
from pool.stores import Stack


class KeptState(State, Protocol):
    """fresh: int64[BATCH], frames that have just come, or a second batch beside ``pfns``."""

    @property
    def fresh(self) -> Ints: ...  # noqa: D102


@kernel
def alloc_singly(pool: KeptState, host: Host, n: int) -> int:
    """``n`` (at most BATCH) calls for one page each; those that could be mapped to ``fresh``."""
    got = ports.alloc_pages(host, n, 0, False, pool.fresh)
    pool.c[SINGLE_CALLS] += calls_for(n, got)
    return enter(pool, host, got, False, pool.fresh)


@kernel
def calls_for(n: int, got: int) -> int:
    """Single calls that were made for ``got`` of ``n`` blocks: the first that fails is the last."""
    return min(n, got + 1)


@kernel
def lend_fresh(pool: KeptState, host: Host, done: int, n: int, mem: Ints, iova: Ints) -> int:
    """Goes on from ``done`` to ``n`` with pages allocated singly; how many are lent then."""
    while done < n:
        want = min(BATCH, n - done)
        got = alloc_singly(pool, host, want)
        for i in range(got):
            lend(pool, pool.fresh[i], done + i, mem, iova)
        done += got
        if got < want:
            break
    return done


@kernel
def free(pool: State, host: Host, n: int, pfns: Ints) -> None:
    """put_page() of each of ``n``, which is the last: one atomic decrement."""
    if n:
        pool.c[RELEASED] += n
        pool.c[ATOMICS] += n
        ports.free_pages(host, n, 0, False, pfns)


@kernel
def leave(pool: State, host: Host, n: int, pfns: Ints) -> None:
    """Unmaps what is mapped of ``n`` (at most BATCH), and drops the last reference to each."""
    unmap(pool, host, n, 0, pfns)
    free(pool, host, n, pfns)


@kernel
def leave_all(pool: State, host: Host, stack: Stack) -> None:
    """All pages of ``stack`` leave."""
    while stores.count(stack):
        n = min(BATCH, stores.count(stack))
        for i in range(n):
            pool.pfns[i] = stores.pop(stack)
        leave(pool, host, n, pool.pfns)
