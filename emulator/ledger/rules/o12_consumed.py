# SPDX-License-Identifier: MIT
"""O-12: a driver consumes what the device has produced, once."""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from emulator.ledger.facts import Armed, Fact
from emulator.ledger.rules.base import Commons, Rule
from emulator.ledger.signals import Signal
from emulator.ledger.state import DeviceState, Ring
from emulator.ports import RingKind

_MODULUS = 1 << 16


class ConsumedRule(Rule):
    """The counts a driver writes to ARM lie between its last ones and the device's own.

    More than the device has written: something that is no completion was consumed (poison, or one
    twice). Less than before: the driver goes over completions again. Counts have 16 bits and a busy
    driver seldom arms: where the device has written a quarter of that meanwhile, they do not tell.
    """

    number = "O-12"
    title = "each completion is consumed once, and nothing that the device did not produce"
    speaks = "when the driver arms the interrupt"
    needs = frozenset({Signal.RING, Signal.MMIO})
    facts = (Armed,)

    def __init__(self, state: DeviceState, commons: Commons) -> None:
        super().__init__(state, commons)
        self._seen: dict[tuple[int, str], int] = {}
        self._written: Counter[tuple[int, str]] = Counter()  # since the driver last armed

    def ring_started(self, now_ns: int, ring: Ring) -> None:
        """Counts begin at 0 again."""
        key = ring.queue, ring.kind.value[:2]
        self._seen.pop(key, None)
        self._written.pop(key, None)

    def reset(self, now_ns: int) -> None:
        """And after a reset."""
        self._seen.clear()
        self._written.clear()

    def returned(
        self,
        now_ns: int,
        queue: int,
        kind: RingKind,
        iovas: NDArray[np.uint64],
        lengths: NDArray[np.int64],
    ) -> None:
        """The device has written a completion for each."""
        self._written[queue, kind.value[:2]] += len(iovas)

    def told(self, now_ns: int, fact: Fact) -> None:
        """Looks at both sides of the pair, if they run."""
        if isinstance(fact, Armed) and not self._asks_for_an_interrupt(fact):
            self._judge(now_ns, fact.queue, "rx", fact.rx_seen, fact.rx_done, fact.rx_size)
            self._judge(now_ns, fact.queue, "tx", fact.tx_seen, fact.tx_done, fact.tx_size)

    def _asks_for_an_interrupt(self, fact: Armed) -> bool:
        """The driver wrote the complements of its counts, which are never the device's.

        A watchdog's way to have an interrupt at once, and so to see whether any arrives at all.
        """
        sides = (
            ("rx", fact.rx_seen, fact.rx_done, fact.rx_size),
            ("tx", fact.tx_seen, fact.tx_done, fact.tx_size),
        )
        meant = [
            ((seen ^ (_MODULUS - 1)) - before) % _MODULUS <= (done - before) % _MODULUS
            for side, seen, done, size in sides
            if size
            for before in (self._seen.get((fact.queue, side), 0),)
        ]
        return bool(meant) and all(meant)

    def _judge(self, now_ns: int, queue: int, side: str, seen: int, done: int, size: int) -> None:
        if not size:
            return
        key = queue, side
        ahead = (seen - done) % _MODULUS
        before, written = self._seen.get(key, 0), self._written[key]
        self._seen[key], self._written[key] = seen, 0
        if 0 < ahead < _MODULUS // 2:
            self._speak(now_ns, key, f"{ahead} more completions than the device wrote ({done})")
        elif written < _MODULUS // 4 and (seen - before) % _MODULUS >= _MODULUS // 2:
            self._speak(now_ns, key, f"fewer completions than before ({before})")

    def _speak(self, now_ns: int, key: tuple[int, str], what: str) -> None:
        queue, side = key
        cause = f"{side} of queue {queue}: the driver says it consumed {what} (driver bug)"
        self.report(now_ns, cause, 0, 0)
