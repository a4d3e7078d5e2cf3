# SPDX-License-Identifier: MIT
"""One receive queue: its ring, what has arrived, and what its consumer holds, as arrays."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from emulator.kernel import Floats, Ints, kernel

DROP, DISCARD, FORWARD, FORWARD_REMOTE, SOCKET, STORAGE = range(6)
"""Consumers: see :class:`testbed.twin.scenario.Consumer`."""

(
    POSTED,
    DONE,
    PENDING_HEAD,
    PENDING_TAIL,
    CPU,
    DEVICE,
    CONSUMER,
    BUDGET,
    FIRST,
    LENGTH,
    TRUESIZE,
    BATCH,
    PACKETS,
    BYTES,
    LOST,
    POLLS,
    WAKEUPS,
    NO_BUFFER,
    HELD_HEAD,
    HELD_TAIL,
    LATE_HEAD,
    LATE_TAIL,
    LATE_EVERY,
    CURSOR,
    HELD_PEAK,
    INFLIGHT_PEAK,
    READS,
    DEVICE_PEER,
    LANDED,
    PROBES,
    INFLIGHT_FIRST,
    RING,
    TABLE,
    IOMMU_SHIFT,
    ALLOCATOR_STORE,
    N_SIZE,
) = range(36)
"""Places in ``n``. POSTED, DONE: buffers posted and filled since the start; PENDING: packets on the
wire's side that wait for a poll; BUDGET: of a poll; FIRST: packets that the first poll finds if
the wire is never the limit; LENGTH, TRUESIZE: of a buffer; BATCH: packets of a transmit
completion, or of a storage command; LOST: no buffer was posted; NO_BUFFER: wanted
and not had; HELD, LATE: what the consumer holds, and for long; LATE_EVERY: every how many packets
one is held for long; CURSOR: in the tables of traffic; READS: page-table reads of the walker;
DEVICE_PEER: the device whose buffers this one tries to write, or -1; LANDED of PROBES;
INFLIGHT_FIRST: pages of the pool when the ring was first full; RING: its descriptors; TABLE:
packets in the tables; IOMMU_SHIFT: log2 of the pages the buffers are mapped by; ALLOCATOR_STORE:
the pool's store is a list of the page allocator."""

NEXT_NS, GAP_SCALE, HOLD_NS, LATE_NS, STORES_PAID, REFERENCES_PAID, IDLE_NS, F_SIZE = range(8)
"""Places in ``f``: when the next packet arrives; ns of a gap of 1.0 in the table; how long the
consumer holds a packet, and those it holds for long; what the pool's work on its stores and its
reference counts have cost so far; time without work."""

FOR_EVER = 1e300
"""A time that never comes (ns)."""
RING_MAX, TABLE_SIZE, POLL_MAX = 8192, 1 << 16, 64
"""Descriptors of a ring, packets in a table of traffic, packets of a poll, at most."""
HOLD_SIZE = 1 << 16
"""Packets a consumer can hold: more than any socket buffer of small packets."""


class Queue(NamedTuple):
    """n, f: see above. ring_*: int64[ring size]; pending: bytes of packets that wait.

    held_*, late_*: what the consumer has, in order of ``due`` (ns). sizes, gaps: tables of
    traffic. mem, iova, lengths, received: room for one poll.
    """

    n: Ints
    f: Floats
    ring_mem: Ints
    ring_iova: Ints
    pending: Ints
    held_mem: Ints
    held_due: Floats
    late_mem: Ints
    late_due: Floats
    sizes: Ints
    gaps: Floats
    mem: Ints
    iova: Ints
    lengths: Ints
    received: Ints


def make_queue(ring: int, budget: int, sizes: Ints, gaps: Floats) -> Queue:
    """An empty queue of ``ring`` descriptors.

    sizes: bytes of up to TABLE_SIZE packets; gaps: times from each to the next. All queues have
    arrays of the same lengths, so that they share their machine code.
    """
    queue = Queue(
        n=np.zeros(N_SIZE, np.int64),
        f=np.zeros(F_SIZE, np.float64),
        ring_mem=np.zeros(RING_MAX, np.int64),
        ring_iova=np.zeros(RING_MAX, np.int64),
        pending=np.zeros(RING_MAX, np.int64),
        held_mem=np.zeros(HOLD_SIZE, np.int64),
        held_due=np.zeros(HOLD_SIZE, np.float64),
        late_mem=np.zeros(HOLD_SIZE, np.int64),
        late_due=np.zeros(HOLD_SIZE, np.float64),
        sizes=np.zeros(TABLE_SIZE, np.int64),
        gaps=np.zeros(TABLE_SIZE, np.float64),
        mem=np.zeros(POLL_MAX, np.int64),
        iova=np.zeros(POLL_MAX, np.int64),
        lengths=np.zeros(POLL_MAX, np.int64),
        received=np.ones(POLL_MAX, np.int64),
    )
    queue.sizes[: len(sizes)], queue.gaps[: len(gaps)] = sizes, gaps
    queue.n[RING], queue.n[BUDGET], queue.n[TABLE] = ring, budget, len(sizes)
    return queue


@kernel
def free_slots(queue: Queue) -> int:
    """Descriptors of the ring that hold no buffer."""
    return queue.n[RING] - (queue.n[POSTED] - queue.n[DONE])


@kernel
def waiting(queue: Queue) -> int:
    """Packets that have arrived and were not polled."""
    return queue.n[PENDING_TAIL] - queue.n[PENDING_HEAD]


@kernel
def arrive(queue: Queue, now: float) -> None:
    """Packets of the wire up to ``now``: each takes a posted buffer, or is lost."""
    if queue.f[GAP_SCALE] == 0.0:
        _arrive_at_once(queue)
        return
    table = queue.n[TABLE]
    while queue.f[NEXT_NS] <= now:
        place = queue.n[CURSOR] % table
        if waiting(queue) < queue.n[POSTED] - queue.n[DONE]:
            queue.pending[queue.n[PENDING_TAIL] % queue.n[RING]] = queue.sizes[place]
            queue.n[PENDING_TAIL] += 1
        else:
            queue.n[LOST] += 1
        queue.n[CURSOR] += 1
        queue.f[NEXT_NS] += queue.gaps[place] * queue.f[GAP_SCALE]


@kernel
def _arrive_at_once(queue: Queue) -> None:
    """As many as a poll takes: the wire is never the limit, and nothing is lost.

    The first poll finds fewer, so later ones do not begin where a block of buffers begins. One that
    was cut short, as the run stopped there to measure, goes on where it was: that stays so.
    """
    if waiting(queue) > 0:
        return
    most = queue.n[BUDGET] if queue.n[PENDING_TAIL] else min(queue.n[FIRST], queue.n[BUDGET])
    for _ in range(min(most, queue.n[POSTED] - queue.n[DONE])):
        size = queue.sizes[queue.n[CURSOR] % queue.n[TABLE]]
        queue.pending[queue.n[PENDING_TAIL] % queue.n[RING]] = size
        queue.n[PENDING_TAIL] += 1
        queue.n[CURSOR] += 1


@kernel
def hold(queue: Queue, mem: int, now: float) -> None:
    """The consumer keeps a buffer; every so many packets, for long."""
    queue.n[HELD_PEAK] = max(
        queue.n[HELD_PEAK],
        queue.n[HELD_TAIL] - queue.n[HELD_HEAD] + queue.n[LATE_TAIL] - queue.n[LATE_HEAD] + 1,
    )
    late = queue.n[LATE_EVERY]
    if late and (queue.n[HELD_TAIL] + queue.n[LATE_TAIL]) % late == late - 1:
        place = queue.n[LATE_TAIL] % HOLD_SIZE
        queue.late_mem[place] = mem
        queue.late_due[place] = now + queue.f[LATE_NS]
        queue.n[LATE_TAIL] += 1
        return
    place = queue.n[HELD_TAIL] % HOLD_SIZE
    queue.held_mem[place] = mem
    queue.held_due[place] = now + queue.f[HOLD_NS]
    queue.n[HELD_TAIL] += 1


@kernel
def has_room_to_hold(queue: Queue) -> bool:
    """Whether a poll's worth can be held: else the consumer's backlog is full."""
    size = HOLD_SIZE - POLL_MAX
    held = queue.n[HELD_TAIL] - queue.n[HELD_HEAD]
    return held < size and queue.n[LATE_TAIL] - queue.n[LATE_HEAD] < size


@kernel
def due(queue: Queue, now: float, limit: int) -> int:
    """Up to ``limit`` buffers that the consumer is done with by ``now``, into ``mem``; how many."""
    count = 0
    while count < limit and queue.n[HELD_HEAD] < queue.n[HELD_TAIL]:
        place = queue.n[HELD_HEAD] % HOLD_SIZE
        if queue.held_due[place] > now:
            break
        queue.mem[count] = queue.held_mem[place]
        queue.n[HELD_HEAD] += 1
        count += 1
    while count < limit and queue.n[LATE_HEAD] < queue.n[LATE_TAIL]:
        place = queue.n[LATE_HEAD] % HOLD_SIZE
        if queue.late_due[place] > now:
            break
        queue.mem[count] = queue.late_mem[place]
        queue.n[LATE_HEAD] += 1
        count += 1
    return count


@kernel
def next_event(queue: Queue) -> float:
    """When something happens next that a poll would see: a packet, or a buffer's return."""
    when = queue.f[NEXT_NS]
    if queue.n[HELD_HEAD] < queue.n[HELD_TAIL]:
        when = min(when, queue.held_due[queue.n[HELD_HEAD] % HOLD_SIZE])
    if queue.n[LATE_HEAD] < queue.n[LATE_TAIL]:
        when = min(when, queue.late_due[queue.n[LATE_HEAD] % HOLD_SIZE])
    return when


@kernel
def held(queue: Queue) -> int:
    """Buffers that the consumer has."""
    return queue.n[HELD_TAIL] - queue.n[HELD_HEAD] + queue.n[LATE_TAIL] - queue.n[LATE_HEAD]
