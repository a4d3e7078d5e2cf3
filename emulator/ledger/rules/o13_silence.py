# SPDX-License-Identifier: MIT
"""O-13: completions are announced, and announcements answered."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emulator.ledger.facts import Armed, Fact, Interrupted
from emulator.ledger.rules.base import Commons, Rule
from emulator.ledger.signals import Signal
from emulator.ledger.state import DeviceState
from emulator.ports import RingKind


@dataclass(slots=True)
class _Queue:
    """armed: the driver waits. pending_ns, raised_ns: since when (None: not)."""

    armed: bool = False
    pending_ns: int | None = None
    raised_ns: int | None = None


class SilenceRule(Rule):
    """No completion waits for its interrupt, and no interrupt for the driver, for ``stall_ns``.

    A driver that polls without end answers by posting receive buffers. Frames to send are the
    stack's: they come from a queue that nobody polls as well. A stall that is over when a verdict
    is asked for is not told: the host may have kept the guest waiting.
    """

    number = "O-13"
    title = "completions are announced and announcements answered in bounded time"
    speaks = "when a verdict is asked for"
    needs = frozenset({Signal.RING, Signal.MMIO, Signal.IRQ})
    facts = (Armed, Interrupted)

    def __init__(self, state: DeviceState, commons: Commons) -> None:
        super().__init__(state, commons)
        self._queues: dict[int, _Queue] = {}

    def told(self, now_ns: int, fact: Fact) -> None:
        """ARM answers; an interrupt announces what was pending."""
        if isinstance(fact, Armed):
            seen_all = (fact.rx_seen, fact.tx_seen) == (fact.rx_done, fact.tx_done)
            self._queues[fact.queue] = _Queue(True, None if seen_all else now_ns)
        elif isinstance(fact, Interrupted) and fact.queue is not None:
            queue = self._queues.setdefault(fact.queue, _Queue())
            queue.armed, queue.pending_ns, queue.raised_ns = False, None, now_ns

    def packets(self, now_ns: int, queue: int, kind: RingKind, count: int) -> None:
        """Completions for a driver that waits are pending from the first on."""
        known = self._queues.get(queue)
        if known is not None and known.armed and known.pending_ns is None and count:
            known.pending_ns = now_ns

    def posted(
        self,
        now_ns: int,
        queue: int,
        kind: RingKind,
        iovas: NDArray[np.uint64],
        lengths: NDArray[np.int64],
    ) -> None:
        """The driver is at work, if it fills its receive ring."""
        known = self._queues.get(queue)
        if known is not None and kind is RingKind.RX_DESC:
            known.raised_ns = None

    def ring_stopped(self, now_ns: int, queue: int, kind: RingKind) -> None:
        """A queue that is taken down owes nothing."""
        self._queues.pop(queue, None)

    def reset(self, now_ns: int) -> None:
        """Nor does one that was reset."""
        self._queues.clear()

    def gate_changed(self, now_ns: int, is_open: bool, why: str) -> None:
        """Interrupts are memory writes: without bus mastering none can come."""
        if not is_open:
            self._queues.clear()

    def looked(self, now_ns: int) -> None:
        """Reports a stall once; it begins anew with the next event."""
        limit_ns = self.state.policy.stall_ns
        for number, queue in self._queues.items():
            if queue.pending_ns is not None and now_ns - queue.pending_ns > limit_ns:
                what = "a completion has had no interrupt (device bug)"
                self._speak(now_ns, number, what, queue.pending_ns)
                queue.pending_ns = None
            if queue.raised_ns is not None and now_ns - queue.raised_ns > limit_ns:
                what = "an interrupt has had no answer (driver bug)"
                self._speak(now_ns, number, what, queue.raised_ns)
                queue.raised_ns = None

    def _speak(self, now_ns: int, queue: int, what: str, since_ns: int) -> None:
        cause = f"queue {queue}: {what} for {now_ns - since_ns} ns, since {since_ns / 1e9:.9f} s"
        self.report(now_ns, cause, 0, 0)
