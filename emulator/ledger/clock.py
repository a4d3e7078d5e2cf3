# SPDX-License-Identifier: MIT
"""The guest's clock on the ledger's: a straight line between bounds, with the error it leaves.

Each sample is one moment between two stamps of the guest's and between two of the ledger's. A map:
the guest's tracer had a stamp before the device could see it and one after the device had answered,
the ledger has one. A tick: the ledger's side has a stamp before it asked the guest for its clock
and one after the answer, the guest has one. So the moment lies between, whatever the delays, and no
round trip has to be assumed symmetric.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emulator.errors import DmabedError

DRIFT_MAX = 0.5
"""A guest that calibrates its clock at boot, emulated on a busy host, has been seen 10 % off."""
OUTLIERS = 20
_STEPS = 96
#: Stamps are whole ns: bounds that just meet do not contradict each other.
_QUANTUM_NS = 1.0


class ClockError(DmabedError):
    """The samples do not say how the clocks relate."""


@dataclass(frozen=True, slots=True)
class ClockMap:
    """``host = guest + offset_ns + drift * (guest - origin_ns)``, right within ``error_ns``.

    samples: that it rests on. left_out: samples that contradict all others.
    """

    origin_ns: int
    offset_ns: int
    drift: float
    error_ns: int
    samples: int
    left_out: int = 0

    def to_host(self, guest_ns: int) -> int:
        """A time of the guest on the ledger's clock."""
        ahead = guest_ns - self.origin_ns
        return guest_ns + self.offset_ns + round(self.drift * ahead)


def fit(
    before: NDArray[np.int64],
    after: NDArray[np.int64],
    earliest: NDArray[np.int64],
    latest: NDArray[np.int64],
) -> ClockMap:
    """The line in the middle of all that the bounds allow; ``error_ns``: how far any of them is.

    before, after: int64[n], the guest's stamps around each moment. earliest, latest: int64[n], the
    ledger's.
    A ledger whose process had to wait for a processor has stamped a moment too early: where no line
    satisfies all bounds, the samples that are the earliest by far are left out, one in
    ``OUTLIERS`` at most; if that does not help, the violation is the error.

    Raises:
        ClockError: there is no sample, or stamps are out of order.
    """
    if not len(latest) or (before > after).any() or (earliest > latest).any():
        raise ClockError("no event was seen by guest and device: let the driver map something")
    origin = int(before[0])
    base = int(earliest[0]) - origin
    bounds = _Bounds(
        (before - origin).astype(np.float64),
        (after - origin).astype(np.float64),
        (earliest - after - base).astype(np.float64) - _QUANTUM_NS,
        (latest - before - base).astype(np.float64) + _QUANTUM_NS,
    )
    drift = _peak(bounds.room, -DRIFT_MAX, DRIFT_MAX)
    for _ in range(len(latest) // OUTLIERS):
        if bounds.room(drift) >= 0:
            break
        bounds = bounds.without_earliest(drift)
        drift = _peak(bounds.room, -DRIFT_MAX, DRIFT_MAX)
    lowest, highest = bounds.at(drift)
    middle = (lowest + highest) / 2
    error = (lowest - highest) / 2 if highest < lowest else bounds.farthest(drift, middle)
    used = len(bounds.before)
    error_ns = int(np.ceil(error)) + 1
    return ClockMap(origin, base + round(middle), drift, error_ns, used, len(latest) - used)


@dataclass(frozen=True)
class _Bounds:
    """At guest time ``before`` the offset is at most ``high``, at ``after`` at least ``low``."""

    before: NDArray[np.float64]
    after: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]

    def at(self, drift: float) -> tuple[float, float]:
        """The least and the greatest offset at the origin that this drift allows."""
        lowest = (self.low - drift * self.after).max()
        return float(lowest), float((self.high - drift * self.before).min())

    def room(self, drift: float) -> float:
        """Greatest minus least: a concave function of the drift."""
        lowest, highest = self.at(drift)
        return highest - lowest

    def without_earliest(self, drift: float) -> _Bounds:
        """All but the sample whose upper bound is the lowest."""
        keep = np.ones(len(self.before), np.bool_)
        keep[int((self.high - drift * self.before).argmin())] = False
        return _Bounds(self.before[keep], self.after[keep], self.low[keep], self.high[keep])

    def farthest(self, drift: float, middle: float) -> float:
        """How far a line that satisfies all bounds can be from this one, over all samples."""
        least = _edge(self.room, drift, -DRIFT_MAX)
        most = _edge(self.room, drift, DRIFT_MAX)
        ends = (float(self.before.min()), float(self.after.max()))
        return max(self._far_at(end, least, most, middle + drift * end) for end in ends)

    def _far_at(self, end: float, least: float, most: float, ours: float) -> float:
        """The same at guest time ``end``, where our line has the offset ``ours``."""

        def above(drift: float) -> float:
            return self.at(drift)[1] + drift * end

        def below(drift: float) -> float:
            return -self.at(drift)[0] - drift * end

        highest = above(_peak(above, least, most))
        lowest = -below(_peak(below, least, most))
        return max(highest - ours, ours - lowest)


def _peak(function: Callable[[float], float], left: float, right: float) -> float:
    """Where a concave function is greatest."""
    for _ in range(_STEPS):
        third = (right - left) / 3
        if function(left + third) < function(right - third):
            left += third
        else:
            right -= third
    return (left + right) / 2


def _edge(room: Callable[[float], float], inside: float, outside: float) -> float:
    """The last drift on the way to ``outside`` that leaves room."""
    if room(outside) >= 0:
        return outside
    for _ in range(_STEPS):
        middle = (inside + outside) / 2
        if room(middle) >= 0:
            inside = middle
        else:
            outside = middle
    return outside
