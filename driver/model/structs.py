# SPDX-License-Identifier: MIT
"""The driver's structures, member for member those of ``driver/linux/dmabed.h`` where both have.

Counters called ``next``, ``posted``, ``prod`` and so on run freely; an entry's slot is the counter
masked by the ring's size.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from driver.model.host import Coherent, Host
from driver.model.skb import BufferOwner, SkbBatch
from driver.model.steps import Steps
from emulator.nic.descriptors import COMPLETION
from pool.buffers import NO_IOVA, BufferBatch
from pool.pool import BufferPool

DMABED_DEFAULT_RING = 512
DMABED_DEFAULT_USECS = 64
DMABED_DEFAULT_FRAMES = 64
DMABED_MAX_MTU = 9216
DMABED_RX_HEADROOM = 64
"""NET_SKB_PAD + NET_IP_ALIGN on x86-64."""
DMABED_RX_BUF_LEN = 4096 - 320 - DMABED_RX_HEADROOM
"""SKB_WITH_OVERHEAD(PAGE_SIZE) - headroom: struct skb_shared_info, 320 bytes, lies behind."""
MAX_SKB_FRAGS = 17
NAPI_POLL_WEIGHT = 64
ETH_HLEN = 14

DMABED_NOTE_BOUND = 1
DMABED_NOTE_GAVE_BACK = 2
DMABED_NOTE_GONE = 3


class BufferRing:
    """The buffer behind each slot of a ring: one array a column of :class:`BufferBatch`."""

    def __init__(self, size: int) -> None:
        self.mask = size - 1
        self._columns = [np.zeros(size, c.dtype) for c in BufferBatch.empty().columns()]

    def put(self, first: int, batch: BufferBatch) -> None:
        """``batch`` lies in the slots from counter ``first`` on."""
        slots = np.arange(first, first + len(batch)) & self.mask
        for column, values in zip(self._columns, batch.columns(), strict=True):
            column[slots] = values

    def get(self, first: int, count: int) -> BufferBatch:
        """The ``count`` buffers from counter ``first`` on: copies."""
        slots = np.arange(first, first + count) & self.mask
        return BufferBatch(*(column[slots] for column in self._columns))


class Stack(Protocol):
    """What lies above the driver."""

    async def receive(self, priv: Priv, queue: int, skbs: SkbBatch) -> None:
        """Frames came in on ``queue``: they are the stack's, who frees them sooner or later."""
        ...

    async def wake(self, priv: Priv, queue: int) -> None:
        """``queue`` has room again, after :func:`dmabed_start_xmit` had turned frames away."""
        ...


@dataclass(slots=True)
class Qstats:
    """Counts of one queue pair, kept while it is down. Names as in ``struct dmabed_qstats``."""

    rx_packets: int = 0
    rx_bytes: int = 0
    rx_dropped: int = 0
    rx_bad: int = 0
    rx_alloc_fail: int = 0
    rx_maps: int = 0
    rx_unmaps: int = 0
    rx_doorbells: int = 0
    polls: int = 0
    arms: int = 0
    tx_packets: int = 0
    tx_bytes: int = 0
    tx_errors: int = 0
    tx_bad: int = 0
    tx_maps: int = 0
    tx_unmaps: int = 0
    tx_dropped: int = 0
    tx_stops: int = 0
    rescues: int = 0

    def add(self, other: Qstats) -> None:
        """Adds ``other``'s counts to these."""
        for item in fields(self):
            setattr(self, item.name, getattr(self, item.name) + getattr(other, item.name))


@dataclass(slots=True)
class Config:
    """Of a set: queue pairs and entries of their rings."""

    queues: int
    rx_size: int = DMABED_DEFAULT_RING
    tx_size: int = DMABED_DEFAULT_RING


@dataclass(slots=True)
class Rings:
    """The memory of one side: descriptor and completion ring, ``size`` entries each.

    desc, cq: structured arrays [size] of the layouts in emulator/nic/descriptors.py.
    """

    size: int
    desc: NDArray[Any]
    cq: NDArray[Any]
    desc_block: Coherent
    cq_block: Coherent

    @property
    def mask(self) -> int:
        """Entries - 1."""
        return self.size - 1

    @property
    def log2(self) -> int:
        """log2 of the entries."""
        return self.size.bit_length() - 1


@dataclass(slots=True)
class Rx:
    """Receive side. next: completions consumed; posted: descriptors filled; rung: doorbell's value.

    open_buffers, open_entries: pieces of a frame whose end has not come yet, their completions.
    """

    rings: Rings
    buffers: BufferRing
    pool: BufferPool
    next: int = 0
    posted: int = 0
    rung: int = 0
    open_buffers: BufferBatch = field(default_factory=BufferBatch.empty)
    open_entries: NDArray[Any] = field(default_factory=lambda: np.zeros(0, COMPLETION.dtype))


@dataclass(slots=True)
class Tx:
    """Transmit side. prod: descriptors filled; clean: reaped; seen: completions consumed.

    Per slot: the piece's buffer, its mapping, of ``1 << order`` pages, bytes and owner. Per frame,
    in slot ``frame & mask``: how many descriptors it has. frames: frames ever queued.
    """

    rings: Rings
    buffers: BufferRing
    iova: NDArray[np.uint64]
    order: NDArray[np.int64]
    length: NDArray[np.int64]
    owner: NDArray[np.int64]
    count: NDArray[np.int64]
    owners: list[BufferOwner] = field(default_factory=list)
    prod: int = 0
    clean: int = 0
    seen: int = 0
    frames: int = 0
    stopped: bool = False

    @classmethod
    def on(cls, rings: Rings) -> Tx:
        """A side with nothing in flight."""
        size = rings.size
        iova = np.full(size, NO_IOVA, np.uint64)
        order, length, owner, count = (np.zeros(size, np.int64) for _ in range(4))
        return cls(rings, BufferRing(size), iova, order, length, owner, count)


@dataclass(slots=True)
class Watch:
    """What the timer remembers of a pair. seen: completions consumed, descriptors reaped.

    quiet: ticks without progress; odd: ticks with a contradiction; still: ticks with frames to send
    and none sent. interrupts: at the last probe; probes: those in a row that were not answered.
    pending: completions lay there at the last look.
    """

    seen: tuple[int, int] = (0, 0)
    quiet: int = 0
    odd: int = 0
    still: int = 0
    interrupts: int = 0
    probes: int = 0
    pending: bool = False


@dataclass(slots=True)
class Qp:
    """A queue pair. broken: a completion made no sense; left alone until the reset.

    interrupts: handled since the pair was made. idle_polls: in a row that found nothing.
    """

    index: int
    base: int
    rx: Rx
    tx: Tx
    stats: Qstats
    priv: Priv
    napi_enabled: bool = False
    in_poll: bool = False
    broken: bool = False
    interrupts: int = 0
    idle_polls: int = 0
    watch: Watch = field(default_factory=Watch)


@dataclass(slots=True)
class Priv:
    """A device. set: its queue pairs, empty while the interface is down.

    dying: closed pools whose pages are still out. suspicions: why the timer asked for resets.
    tries: resets still to be tried of a device that did not come back; the set is empty then.
    steps: what a planted bug replaces.
    """

    host: Host
    stack: Stack
    rx_mode: str
    cfg: Config
    max_queues: int
    min_ring: int
    max_ring: int
    frame_cap: int
    mac: bytes
    stats: list[Qstats]
    set: list[Qp] = field(default_factory=list)
    dying: list[BufferPool] = field(default_factory=list)
    mtu: int = 1500
    usecs: int = DMABED_DEFAULT_USECS
    frames: int = DMABED_DEFAULT_FRAMES
    promisc: bool = False
    carrier: bool = False
    link_changes: int = 0
    resets: int = 0
    dma_faults: int = 0
    reset_pending: bool = False
    last_reset_ns: int = 0
    last_tick_ns: int = 0
    tries: int = 0
    suspicions: list[str] = field(default_factory=list)
    gone: bool = False
    removed: bool = False
    steps: Steps = field(default_factory=Steps)
