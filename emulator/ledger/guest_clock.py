# SPDX-License-Identifier: MIT
"""What is known of a guest's clock: samples of the newest ticks, and the line through them.

Two kinds of sample bound it: a tick, when the guest was asked for its clock between two moments of
the host's, and a map, stamped by the guest before and after the device saw it. The samples of the
last :data:`KEPT_TICKS` ticks are kept, the tightest of each: a trace of any length costs the same,
and a clock whose rate wanders is followed.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import numpy as np

from emulator.ledger.clock import ClockMap, fit

KEPT_TICKS = 32
KEPT_MAPS = 8
ERRORS = 8


class Tick(NamedTuple):
    """The guest's clock was ``guest_ns`` between two times of the ledger's clock."""

    sent_ns: int
    guest_ns: int
    received_ns: int


class MapSample(NamedTuple):
    """A map: the guest's page table write, its return from the call, the ledger's time; ns."""

    table_ns: int
    mapped_ns: int
    host_ns: int

    @property
    def width_ns(self) -> int:
        """What the sample leaves open."""
        return self.mapped_ns - self.table_ns


class GuestClock:
    """The clock of one guest; all its devices may share it.

    map: the newest line (None: no sample yet). samples: all that ever went into one.
    """

    def __init__(self) -> None:
        self.map: ClockMap | None = None
        self.samples = 0
        self._ticks: deque[list[tuple[int, int, int, int]]] = deque(maxlen=KEPT_TICKS)
        self._errors: deque[int] = deque(maxlen=ERRORS)
        self._last: Tick | None = None

    @property
    def error_ns(self) -> int:
        """How far times that were told lately may be off: the most of the last lines in use."""
        return max(self._errors, default=0)

    def used(self) -> None:
        """Times are told by the line as it is now."""
        if self.map is not None:
            self._errors.append(self.map.error_ns)

    def learn(self, tick: Tick | None, maps: list[MapSample]) -> ClockMap:
        """Adds samples and draws the line anew; a tick that another device told adds nothing.

        Raises:
            ClockError: there is no sample at all.
        """
        if tick is not None and tick == self._last:
            tick = None
        self._last = tick or self._last
        if self.map is not None and tick is None and not maps:
            return self.map
        tightest = sorted(maps, key=lambda sample: sample.width_ns)[:KEPT_MAPS]
        rows = [(s.table_ns, s.mapped_ns, s.host_ns, s.host_ns) for s in tightest]
        if tick is not None:
            rows.append((tick.guest_ns, tick.guest_ns, tick.sent_ns, tick.received_ns))
        self.samples += len(maps) + (tick is not None)
        if rows:
            self._ticks.append(rows)
        known = [row for rows in self._ticks for row in rows]
        before, after, earliest, latest = np.array(known, np.int64).reshape(-1, 4).T
        self.map = fit(before, after, earliest, latest)
        return self.map
