# SPDX-License-Identifier: MIT
"""Waiting for one another: locks and engines that serve one request at a time, in virtual time.

VT-d's invalidation queue (one per IOMMU, under a spinlock), the lock of the tree of IOVAs and a
hypervisor that updates so many TCEs a second are all of this kind: however many CPUs ask, no
more than one request is served at once, in the order of arrival.

A simulation plays its CPUs one after the other, a poll at a time, so a request may be told of after
later ones of another CPU. It must not queue behind those: it is served in what they left
free, for which a server keeps a calendar, the time it has given away in each span of 4 us.

A server is SERVER_SIZE elements of a float64 array, from some place on: FREE_AT, BUSY, WAITED in
ns, REQUESTS, and LAST, the latest arrival so far; then the calendar: of each place the number of
the span it stands for, then the ns of that span which are taken.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from emulator.iommu.model.errors import ModelError, TimeBackwardsError
from emulator.iommu.model.places import (
    CALENDAR,
    SERVER_NUMBERS,
    SERVER_SIZE,
    TIMER_NS,
    WAIT_NS,
)
from emulator.kernel import Floats, compiled, kernel

Times = NDArray[np.int64]

FREE_AT, BUSY, WAITED, REQUESTS, LAST = range(SERVER_NUMBERS)
SPANS, TAKEN = SERVER_NUMBERS, SERVER_NUMBERS + CALENDAR
SPAN_NS = 4096.0
"""A power of two, so that times divide exactly. With CALENDAR of them it is known for 8 ms what is
free: longer than CPUs are apart."""


@kernel
def serve(f: Floats, server: int, now: float, service: float) -> float:
    """When a request made at ``now`` is done; it queues behind those made until ``now``.

    Exact for requests told of in order. One that is told of late shares its spans with what was
    told of before: on average right, each by a span at most wrong.
    """
    if now >= f[server + LAST]:
        f[server + LAST] = now
        done = max(now, f[server + FREE_AT]) + service
        _enter(f, server, done - service, service)
    else:
        done = _fit_in(f, server, now, service)
    f[server + FREE_AT] = max(done, f[server + FREE_AT])
    f[server + BUSY] += service
    f[server + WAITED] += done - service - now
    f[server + REQUESTS] += 1
    return done


@kernel
def _enter(f: Floats, server: int, start: float, service: float) -> None:
    """Takes ``service`` from ``start`` on."""
    span, left = int(start // SPAN_NS), service
    while left > 0.0:
        place = _open_span(f, server, span)
        part = min(left, (span + 1) * SPAN_NS - start)
        f[place] += part
        left -= part
        span += 1
        start = span * SPAN_NS


@kernel
def _fit_in(f: Floats, server: int, now: float, service: float) -> float:
    """Takes ``service`` where it is free from ``now`` on; when that is over.

    In each span the request waits first.
    """
    span, left = int(now // SPAN_NS), service
    while True:
        end = (span + 1) * SPAN_NS
        place = _open_span(f, server, span)
        room = max(0.0, min(SPAN_NS - f[place], end - now))
        part = min(left, room)
        f[place] += part
        left -= part
        if left <= 0.0:
            return end - room + part
        span += 1
        now = end


@kernel
def _open_span(f: Floats, server: int, span: int) -> int:
    """Where the calendar has what is taken of a span. One that was overtaken counts as free."""
    place = span % CALENDAR
    if f[server + SPANS + place] != span:
        f[server + SPANS + place] = span
        f[server + TAKEN + place] = 0.0
    return server + TAKEN + place


@kernel
def spend_at(f: Floats, server: int, now: float, service: float, category: int) -> float:
    """As :func:`serve`; the CPU time goes to ``category``, its wait to WAIT_NS."""
    done = serve(f, server, now, service)
    f[category] += service
    f[TIMER_NS if category == TIMER_NS else WAIT_NS] += done - service - now
    return done


@compiled
def _serve_in_order(f: Floats, arrivals: Times, services: Times, done: Times) -> None:
    for i in range(len(arrivals)):
        done[i] = serve(f, 0, arrivals[i], services[i])


class SerialServer:
    """Serves one request at a time. ``busy_ns`` and ``waited_ns`` add up over all requests.

    ``f``: float64[SERVER_SIZE], the server that kernels take; shared by all that wait here.
    """

    def __init__(self) -> None:
        self.f = np.zeros(SERVER_SIZE)
        self._last_arrival_ns = 0

    @property
    def free_at_ns(self) -> int:
        """When all requests so far are done."""
        return int(self.f[FREE_AT])

    @property
    def busy_ns(self) -> int:
        """Time spent serving."""
        return int(self.f[BUSY])

    @property
    def waited_ns(self) -> int:
        """Time that requests waited for others."""
        return int(self.f[WAITED])

    @property
    def requests(self) -> int:
        """Made so far."""
        return int(self.f[REQUESTS])

    def serve_one(self, now_ns: int, service_ns: int) -> int:
        """When a request of ``now_ns`` is done. It queues behind all made before this call.

        Raises:
            ModelError: a negative service time.
        """
        if service_ns < 0:
            raise ModelError(f"a service time of {service_ns} ns: must not be negative")
        return int(serve(self.f, 0, now_ns, service_ns))

    def serve(self, arrivals_ns: Times, service_ns: int | Times) -> Times:
        """When each request is done, shape (n,).

        Args:
            arrivals_ns: when each is made, shape (n,), not decreasing.
            service_ns: how long each takes, one for all or shape (n,).

        Raises:
            TimeBackwardsError: an arrival before an earlier one.
            ModelError: a negative service time.
        """
        done = np.zeros(len(arrivals_ns), np.int64)
        if len(arrivals_ns):
            self._check(arrivals_ns, service_ns)
            services = np.array(np.broadcast_to(service_ns, arrivals_ns.shape), np.int64)
            _serve_in_order(self.f, np.ascontiguousarray(arrivals_ns), services, done)
        return done

    def _check(self, arrivals_ns: Times, service_ns: int | Times) -> None:
        if arrivals_ns[0] < self._last_arrival_ns or np.any(arrivals_ns[1:] < arrivals_ns[:-1]):
            raise TimeBackwardsError(
                f"requests must come in order of time; the last was at {self._last_arrival_ns} ns"
            )
        if np.any(np.asarray(service_ns) < 0):
            raise ModelError("a service time is negative")
        self._last_arrival_ns = int(arrivals_ns[-1])


def closed_loop_rate(queues: int, alone_ns: float, serial_ns: float) -> float:
    """Operations per second of ``queues`` CPUs that each spend ``alone_ns``, then ``serial_ns``.

    The second part is served one CPU at a time. The bound of both resources (asymptotic bounds of
    a closed queueing network): exact for fixed times, where CPUs fall into step.

    Raises:
        ModelError: no queue, or both times are 0.
    """
    if queues < 1 or alone_ns < 0 or serial_ns < 0 or alone_ns + serial_ns <= 0:
        raise ModelError(f"{queues} queues, {alone_ns} + {serial_ns} ns: must be positive")
    together = queues * 1e9 / (alone_ns + serial_ns)
    return min(together, 1e9 / serial_ns) if serial_ns else together
