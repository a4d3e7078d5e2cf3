# SPDX-License-Identifier: MIT
"""Waiting for one another: locks and engines that serve one request at a time, in virtual time.

VT-d's invalidation queue (one per IOMMU, under a spinlock), the tree of IOVAs before 2016 and a
hypervisor that updates so many TCEs a second are all of this kind: however many CPUs ask, no
more than one request is served at once, in the order of arrival.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emulator.iommu.model.errors import ModelError, TimeBackwardsError

Times = NDArray[np.int64]


@dataclass(slots=True)
class SerialServer:
    """Serves one request at a time. ``busy_ns`` and ``waited_ns`` add up over all requests."""

    free_at_ns: int = 0
    busy_ns: int = 0
    waited_ns: int = 0
    requests: int = 0
    _last_arrival_ns: int = 0

    def serve_one(self, now_ns: int, service_ns: int) -> int:
        """When a request of ``now_ns`` is done. It queues behind all made before this call.

        Raises:
            ModelError: a negative service time.
        """
        if service_ns < 0:
            raise ModelError(f"a service time of {service_ns} ns: must not be negative")
        start_ns = max(now_ns, self.free_at_ns)
        self.free_at_ns = start_ns + service_ns
        self.busy_ns += service_ns
        self.waited_ns += start_ns - now_ns
        self.requests += 1
        return self.free_at_ns

    def serve(self, arrivals_ns: Times, service_ns: int | Times) -> Times:
        """When each request is done, shape (n,).

        Args:
            arrivals_ns: when each is made, shape (n,), not decreasing.
            service_ns: how long each takes, one for all or shape (n,).

        Raises:
            TimeBackwardsError: an arrival before an earlier one.
            ModelError: a negative service time.
        """
        if not len(arrivals_ns):
            return np.zeros(0, np.int64)
        self._check(arrivals_ns, service_ns)
        services = np.broadcast_to(np.asarray(service_ns, np.int64), arrivals_ns.shape)
        total = np.cumsum(services)
        # Lindley: the server is idle or busy since the latest arrival that found it idle.
        idle_from = np.maximum.accumulate(
            np.maximum(arrivals_ns, self.free_at_ns) - total + services
        )
        done: Times = idle_from + total
        self.free_at_ns = int(done[-1])
        self.busy_ns += int(total[-1])
        self.waited_ns += int((done - services - arrivals_ns).sum())
        self.requests += len(arrivals_ns)
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
