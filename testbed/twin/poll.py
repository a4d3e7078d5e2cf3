# SPDX-License-Identifier: MIT
"""A NAPI poll: the twin's inner loop, compiled once for each strategy.

What returns, returns; what has arrived is written by the device, judged, handed to the stack and
to its consumer; the ring is filled again. Every step is done on the models and paid for.
"""

from __future__ import annotations

from emulator.iommu.model import unit
from emulator.kernel import compiled, kernel
from emulator.ledger.columns import judge
from emulator.ledger.columns.book import PAGE_SHIFT
from pool import steps
from pool.counters import ALLOCATIONS, RECYCLED_CACHE, REFERENCES, RELEASED, RING_OPS, TAKEN
from pool.steps import NAPI, REMOTE, TEARDOWN, State
from testbed.twin import host as h
from testbed.twin import queue as q
from testbed.twin.host import Host, let_time_pass, spend
from testbed.twin.queue import Queue

BEGIN, RUN, FINISH = range(3)
"""What :func:`drive` is asked to do; one function, for each compiled one costs seconds."""


@compiled
def drive(pool: State, host: Host, queue: Queue, what: int, packets: int, until_ns: float) -> int:
    """Does one of three things, and returns a number of it.

    BEGIN: fills the ring for the first time; buffers posted. RUN: polls until ``packets`` more
    were received or ``until_ns`` is past; packets received. FINISH: the interface goes down, all
    that is held or posted comes back and the pool is closed; pages still in flight.
    """
    host.n[h.CPU], host.n[h.DEVICE] = queue.n[q.CPU], queue.n[q.DEVICE]
    if what == FINISH:
        return finish(pool, host, queue)
    if what == BEGIN:
        refill(pool, host, queue)
        settle_pool(pool, host, queue)
        return queue.n[q.POSTED]
    start = queue.n[q.PACKETS]
    while queue.n[q.PACKETS] - start < packets and host.clock[0] < until_ns:
        poll(pool, host, queue, packets - (queue.n[q.PACKETS] - start))
    return queue.n[q.PACKETS] - start


@kernel
def finish(pool: State, host: Host, queue: Queue) -> int:
    """See :func:`drive`."""
    give_back_due(pool, host, queue, q.FOR_EVER, REMOTE)
    while queue.n[q.DONE] < queue.n[q.POSTED]:
        place = queue.n[q.DONE] % queue.n[q.RING]
        queue.mem[0], queue.received[0] = queue.ring_mem[place], 0
        judge.unposted(host.book, queue.mem[0], queue.n[q.LENGTH])
        steps.give(pool, host, 1, queue.mem, queue.received, TEARDOWN)
        queue.n[q.DONE] += 1
    queue.received[0] = 1
    left = steps.close(pool, host)
    settle_pool(pool, host, queue)
    return left


@kernel
def poll(pool: State, host: Host, queue: Queue, limit: int) -> None:
    """One poll; without anything to do, sleeps until there is."""
    let_time_pass(host)
    context = NAPI if queue.n[q.CONSUMER] == q.FORWARD else REMOTE
    give_back_due(pool, host, queue, host.clock[0], context)
    q.arrive(queue, host.clock[0])
    count = min(q.waiting(queue), queue.n[q.BUDGET], limit)
    if count == 0 or not q.has_room_to_hold(queue):
        refill(pool, host, queue)
        sleep(host, queue)
        return
    queue.n[q.POLLS] += 1
    spend(host, h.DRIVER, host.price[h.POLL] + count * host.price[h.RECEIVE])
    device_writes(host, queue, count)
    if queue.n[q.DEVICE_PEER] >= 0:
        probe(host, queue)
    queue.n[q.PACKETS] += count
    if queue.n[q.CONSUMER] == q.DISCARD:
        discard(pool, host, queue, count)
    else:
        steps.receive(pool, host, count, queue.mem, queue.iova, queue.lengths)
        judge.received(host.book, host.clock[0], count, queue.mem, queue.n[q.TRUESIZE])
        consume(pool, host, queue, count)
    refill(pool, host, queue)
    settle_pool(pool, host, queue)


@kernel
def sleep(host: Host, queue: Queue) -> None:
    """Until the next event, which comes with an interrupt."""
    when = max(q.next_event(queue), host.clock[0] + 1.0)
    queue.f[q.IDLE_NS] += when - host.clock[0]
    host.clock[0] = when
    queue.n[q.WAKEUPS] += 1
    spend(host, h.DRIVER, host.price[h.INTERRUPT])


@kernel
def device_writes(host: Host, queue: Queue, count: int) -> None:
    """The device fills ``count`` posted buffers: translated, judged, and off the ring."""
    ring, length = queue.n[q.RING], queue.n[q.LENGTH]
    identity = unit.is_identity(host.io)
    for i in range(count):
        place = queue.n[q.DONE] % ring
        size = queue.pending[queue.n[q.PENDING_HEAD] % ring]
        mem, iova = queue.ring_mem[place], queue.ring_iova[place]
        if not identity:
            queue.n[q.READS] += unit.translate(host.io, iova >> PAGE_SHIFT, queue.n[q.IOMMU_SHIFT])
        judge.written(host.book, host.clock[0], queue.n[q.DEVICE], mem, iova, min(size, length))
        judge.unposted(host.book, mem, length)
        queue.mem[i], queue.iova[i], queue.lengths[i] = mem, iova, min(size, length)
        queue.n[q.BYTES] += size
        queue.n[q.DONE] += 1
        queue.n[q.PENDING_HEAD] += 1


@kernel
def probe(host: Host, queue: Queue) -> None:
    """The device tries to write the first buffer that it sees of its peer's."""
    place = queue.n[q.DONE] % queue.n[q.RING]
    mem, iova = queue.ring_mem[place], queue.ring_iova[place]
    queue.n[q.PROBES] += 1
    landed = judge.probed(
        host.book, host.clock[0], queue.n[q.DEVICE_PEER], queue.n[q.DEVICE], mem, iova
    )
    queue.n[q.LANDED] += landed


@kernel
def discard(pool: State, host: Host, queue: Queue, count: int) -> None:
    """The driver has looked at the packets and wants their buffers back: nobody else had them."""
    spend(host, h.STACK, count * host.price[h.DROP])
    for i in range(count):
        queue.received[i] = 0
    steps.give(pool, host, count, queue.mem, queue.received, NAPI)
    for i in range(count):
        queue.received[i] = 1


@kernel
def consume(pool: State, host: Host, queue: Queue, count: int) -> None:
    """What becomes of received packets: see :class:`testbed.twin.scenario.Consumer`."""
    kind = queue.n[q.CONSUMER]
    if kind == q.DROP:
        spend(host, h.STACK, count * host.price[h.DROP])
        give_back(pool, host, queue, count, NAPI)
        return
    if kind == q.SOCKET:
        spend(host, h.STACK, count * host.price[h.SOCKET])
    elif kind == q.STORAGE:
        spend(host, h.STACK, count * host.price[h.COMMAND] / queue.n[q.BATCH])
    else:
        spend(host, h.STACK, count * (host.price[h.FORWARD] + host.price[h.TRANSMIT]))
    for i in range(count):
        q.hold(queue, queue.mem[i], host.clock[0])


@kernel
def give_back_due(pool: State, host: Host, queue: Queue, now: float, context: int) -> None:
    """Buffers that the consumer is done with. From another CPU, that CPU pays for it.

    Transmit completions come in batches; the rest of a batch waits for it to be full.
    """
    worker = queue.n[q.CPU] + (1 if context == REMOTE else 0)
    left = q.held(queue)
    if now < q.FOR_EVER:
        left -= left % queue.n[q.BATCH]
    while left > 0:
        count = q.due(queue, now, min(left, q.POLL_MAX))
        if count == 0:
            return
        left -= count
        host.n[h.CPU] = worker
        give_back(pool, host, queue, count, context)
        settle_pool(pool, host, queue)
        host.n[h.CPU] = queue.n[q.CPU]


@kernel
def give_back(pool: State, host: Host, queue: Queue, count: int, context: int) -> None:
    """``count`` buffers of ``queue.mem`` go back to the pool."""
    judge.given_back(host.book, host.clock[0], count, queue.mem, queue.n[q.TRUESIZE])
    steps.give(pool, host, count, queue.mem, queue.received, context)


@kernel
def refill(pool: State, host: Host, queue: Queue) -> None:
    """Posts a buffer in every free slot, as far as there are buffers."""
    missing = q.free_slots(queue)
    while missing > 0:
        want = min(missing, q.POLL_MAX)
        count = steps.take(pool, host, want, queue.mem, queue.iova)
        length = queue.n[q.LENGTH]
        judge.posted(
            host.book, host.clock[0], queue.n[q.DEVICE], count, queue.mem, queue.iova, length
        )
        for i in range(count):
            place = queue.n[q.POSTED] % queue.n[q.RING]
            queue.ring_mem[place], queue.ring_iova[place] = queue.mem[i], queue.iova[i]
            queue.n[q.POSTED] += 1
        missing -= count
        if count < want:
            queue.n[q.NO_BUFFER] += want - count
            return


@kernel
def settle_pool(pool: State, host: Host, queue: Queue) -> None:
    """Pays for what the pool itself did since the last time: its counters, priced."""
    c = pool.c
    in_allocator = queue.n[q.ALLOCATOR_STORE] > 0
    each = h.page_price(host, 1, 0, False) / 2 if in_allocator else host.price[h.STORE_OP]
    stores = (c[TAKEN] + c[RECYCLED_CACHE]) * each + c[RING_OPS] * host.price[h.RING_OP]
    references = c[REFERENCES] * host.price[h.REFERENCE]
    spend(host, h.ALLOC if in_allocator else h.STORE, stores - queue.f[q.STORES_PAID])
    spend(host, h.ATOMIC, references - queue.f[q.REFERENCES_PAID])
    queue.f[q.STORES_PAID], queue.f[q.REFERENCES_PAID] = stores, references
    inflight = c[ALLOCATIONS] - c[RELEASED]
    queue.n[q.INFLIGHT_PEAK] = max(queue.n[q.INFLIGHT_PEAK], inflight)
