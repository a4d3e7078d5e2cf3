# SPDX-License-Identifier: MIT
"""Power's translation tables (TCEs), which a guest changes by calls to the hypervisor.

A mapping of one page is one H_PUT_TCE; of more, H_PUT_TCE_INDIRECT with up to 512 entries for each
call. An unmap is H_STUFF_TCE, up to 512 entries; there is no lazy queue, nothing is stale. What
a call costs is published nowhere: the numbers are parameters, to be swept (0.3 to 3 us a call).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from emulator.iommu.model.contention import SerialServer, serve
from emulator.iommu.model.errors import ModelError
from emulator.iommu.model.places import (
    CEILING_PER_S,
    ENTRIES_PER_CALL,
    ENTRY_NS,
    INDIRECT_CALLS,
    INDIRECT_NS,
    PARAMETERS,
    PUT_CALLS,
    PUT_NS,
    STUFF_CALLS,
    STUFF_NS,
    TCE_ENTRIES,
    numbers,
)
from emulator.kernel import Floats, Ints, compiled, kernel

LIST_ENTRIES = 512  # 8-byte entries in the 4 KiB page that carries the list

Counts = NDArray[np.int64]


@kernel
def put_entries(n: Ints, par: Ints, pages: int) -> tuple[int, int, int]:
    """Calls that enter ``pages`` into the table, their CPU time, and that of their lists."""
    n[TCE_ENTRIES] += pages
    if pages == 1 or par[ENTRIES_PER_CALL] == 1:
        n[PUT_CALLS] += pages
        return pages, pages * par[PUT_NS], 0
    calls = -(-pages // par[ENTRIES_PER_CALL])
    n[INDIRECT_CALLS] += calls
    return calls, calls * par[INDIRECT_NS], pages * par[ENTRY_NS]


@kernel
def stuff_entries(n: Ints, par: Ints, pages: int) -> tuple[int, int, int]:
    """Calls that take ``pages`` out of the table, their CPU time, and that of the entries."""
    calls = -(-pages // par[ENTRIES_PER_CALL])
    n[STUFF_CALLS] += calls
    n[TCE_ENTRIES] += pages
    return calls, calls * par[STUFF_NS], pages * par[ENTRY_NS]


@kernel
def call(
    f: Floats, server: int, par: Ints, now: float, calls: int, calls_ns: int, entries_ns: int
) -> float:
    """When a CPU is done with calls that take it ``calls_ns`` and ``entries_ns``.

    Not before the hypervisor, which has a ceiling for all CPUs together, has had its share.
    """
    done = now + calls_ns + entries_ns
    if par[CEILING_PER_S] == 0:
        return done
    share = calls * 1_000_000_000 // par[CEILING_PER_S] + entries_ns
    return max(done, serve(f, server, now, share))


@compiled
def _put_all(n: Ints, f: Floats, par: Ints, now: float, pages: Ints) -> float:
    for i in range(len(pages)):
        calls, calls_ns, entries_ns = put_entries(n, par, pages[i])
        now = call(f, 0, par, now, calls, calls_ns, entries_ns)
    return now


@compiled
def _stuff_all(n: Ints, f: Floats, par: Ints, now: float, pages: Ints) -> float:
    for i in range(len(pages)):
        calls, calls_ns, entries_ns = stuff_entries(n, par, pages[i])
        now = call(f, 0, par, now, calls, calls_ns, entries_ns)
    return now


@dataclass(frozen=True, slots=True)
class TceCosts:
    """ns of each kind of call, and ``entry_ns`` more for each entry of a multi-entry call.

    ``entries_per_call``: 512; 1 makes every entry a call, as before multi-entry calls.
    ``ceiling_per_s``: calls a second that the hypervisor performs for all CPUs together, so
    the ceiling on updates a second where each is a call; 0: CPUs do not limit one another.
    """

    put_ns: int
    indirect_ns: int
    stuff_ns: int
    entry_ns: int
    entries_per_call: int = LIST_ENTRIES
    ceiling_per_s: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.entries_per_call <= LIST_ENTRIES:
            raise ModelError(
                f"{self.entries_per_call} entries per call: the list has 1 to {LIST_ENTRIES}"
            )

    def enter(self, par: Ints) -> None:
        """Writes them to their places among the parameters of kernels."""
        par[PUT_NS], par[INDIRECT_NS], par[STUFF_NS] = self.put_ns, self.indirect_ns, self.stuff_ns
        par[ENTRY_NS], par[ENTRIES_PER_CALL] = self.entry_ns, self.entries_per_call
        par[CEILING_PER_S] = self.ceiling_per_s


@dataclass(frozen=True, slots=True)
class TceCounts:
    """Calls by kind and table entries changed, as they now stand in ``n``."""

    n: Ints

    @property
    def put_calls(self) -> int:
        """H_PUT_TCE."""
        return int(self.n[PUT_CALLS])

    @property
    def indirect_calls(self) -> int:
        """H_PUT_TCE_INDIRECT."""
        return int(self.n[INDIRECT_CALLS])

    @property
    def stuff_calls(self) -> int:
        """H_STUFF_TCE."""
        return int(self.n[STUFF_CALLS])

    @property
    def entries(self) -> int:
        """Entered or taken out."""
        return int(self.n[TCE_ENTRIES])

    @property
    def calls(self) -> int:
        """Of all kinds."""
        return self.put_calls + self.indirect_calls + self.stuff_calls


@dataclass(slots=True)
class TceTable:
    """Prices maps and unmaps, in the order they are made. ``hypervisor`` is shared by all CPUs."""

    costs: TceCosts
    hypervisor: SerialServer = field(default_factory=SerialServer)
    _n: Ints = field(init=False)
    _par: Ints = field(init=False)

    def __post_init__(self) -> None:
        self._n, self._par = numbers(), np.zeros(PARAMETERS, np.int64)
        self.costs.enter(self._par)

    @property
    def counts(self) -> TceCounts:
        """So far."""
        return TceCounts(self._n)

    def map(self, now_ns: int, pages: Counts) -> int:
        """When a CPU that begins at ``now_ns`` has made maps of ``pages`` (shape (n,)) each."""
        _check(pages)
        return int(_put_all(self._n, self.hypervisor.f, self._par, float(now_ns), pages))

    def unmap(self, now_ns: int, pages: Counts) -> int:
        """When a CPU that begins at ``now_ns`` has undone maps of ``pages`` (shape (n,)) each."""
        _check(pages)
        return int(_stuff_all(self._n, self.hypervisor.f, self._par, float(now_ns), pages))


def _check(pages: Counts) -> None:
    if pages.size and int(pages.min()) < 1:
        raise ModelError(f"a mapping of {int(pages.min())} pages: must be at least 1")
