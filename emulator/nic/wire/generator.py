# SPDX-License-Identifier: MIT
"""A seeded source of test frames, and a check of the test frames that come back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from emulator.errors import DmabedError
from emulator.frames import FrameBatch
from emulator.nic.config import FRAME_CAP
from emulator.nic.wire.testframes import HEADER_END, Checker, build, number

BROADCAST: Final = b"\xff" * 6
GENERATOR_MAC: Final = bytes.fromhex("02dbed000001")
NS_PER_S: Final = 10**9
_STOCK_FRAMES: Final = 1024
_STOCK_BYTES: Final = 1 << 18
"""Made ahead at most: what stays in a processor's cache."""


class GeneratorError(DmabedError):
    """A generator cannot be set up like this."""


class Sizes(Protocol):
    """How long frames are."""

    @property
    def bounds(self) -> tuple[int, int]:
        """The shortest and the longest frame, bytes without FCS."""
        ...

    def pick(self, uniform: NDArray[np.float64]) -> NDArray[np.int64]:
        """The length of each frame, bytes; ``uniform``: float64[n], random in [0, 1)."""
        ...


@dataclass(frozen=True)
class Fixed:
    """Every frame has ``length`` bytes."""

    length: int

    @property
    def bounds(self) -> tuple[int, int]:
        """See :class:`Sizes`."""
        return self.length, self.length

    def pick(self, uniform: NDArray[np.float64]) -> NDArray[np.int64]:
        """See :class:`Sizes`."""
        return np.full(len(uniform), self.length, np.int64)


@dataclass(frozen=True)
class Range:
    """Every length from ``low`` to ``high`` is equally likely."""

    low: int
    high: int

    @property
    def bounds(self) -> tuple[int, int]:
        """See :class:`Sizes`."""
        return self.low, self.high

    def pick(self, uniform: NDArray[np.float64]) -> NDArray[np.int64]:
        """See :class:`Sizes`."""
        return self.low + (uniform * (self.high - self.low + 1)).astype(np.int64)


@dataclass(frozen=True)
class Imix:
    """The simple Internet mix, 7:4:1, as frames without FCS."""

    lengths: tuple[int, ...] = (60, 590, 1514)
    shares: tuple[int, ...] = (7, 4, 1)

    @property
    def bounds(self) -> tuple[int, int]:
        """See :class:`Sizes`."""
        return min(self.lengths), max(self.lengths)

    def pick(self, uniform: NDArray[np.float64]) -> NDArray[np.int64]:
        """See :class:`Sizes`."""
        ends = np.cumsum(self.shares) / sum(self.shares)
        return np.array(self.lengths, np.int64)[np.searchsorted(ends, uniform, side="right")]


@dataclass(frozen=True)
class GeneratorConfig:
    """What to send.

    rate_pps: frames a second on the clock of ``now_ns``; None: as fast as they are taken. Frames
    that were due while the NIC took none follow at once, as out of a paused sender's queue.
    flows: each frame belongs to one of flows 0 to ``flows - 1``, at random. count: frames in all.

    Raises:
        GeneratorError: a value is out of range.
    """

    seed: int = 0
    sizes: Sizes = field(default_factory=lambda: Fixed(60))
    rate_pps: int | None = None
    flows: int = 1
    count: int | None = None
    dst: bytes = BROADCAST
    src: bytes = GENERATOR_MAC

    def __post_init__(self) -> None:
        low, high = self.sizes.bounds
        if not HEADER_END <= low <= high <= FRAME_CAP:
            raise GeneratorError(
                f"sizes of {low} to {high} bytes: must be within {HEADER_END} to {FRAME_CAP}"
            )
        if self.rate_pps is not None and self.rate_pps < 1:
            raise GeneratorError(f"rate_pps = {self.rate_pps}: must be at least 1, or None")
        if self.flows < 1:
            raise GeneratorError(f"flows = {self.flows}: must be at least 1")


class Generator:
    """Sends test frames; checks those it receives.

    The same config gives the same frames in the same order, however they are taken. They are made
    ahead, some hundreds at a time. ``checker``: what was received.
    """

    def __init__(self, config: GeneratorConfig) -> None:
        self._config = config
        seeds = np.random.SeedSequence(config.seed).spawn(2)
        self._size_rng, self._flow_rng = (np.random.default_rng(seed) for seed in seeds)
        self._ahead = min(_STOCK_FRAMES, max(_STOCK_BYTES // config.sizes.bounds[1], 1))
        self._made = np.zeros(config.flows, np.int64)
        self._stock = FrameBatch.empty()
        self._flows = self._sequences = np.zeros(0, np.int64)  # of the stock
        self._position = 0  # of the next frame in the stock
        self.total_sent = 0
        self.checker = Checker()
        self._start_ns: int | None = None

    @property
    def sent(self) -> NDArray[np.int64]:
        """int64[flows]: frames sent of each flow."""
        waiting = self._flows[self._position :]
        counts: NDArray[np.int64] = self._made - np.bincount(waiting, minlength=len(self._made))
        return counts

    @property
    def done(self) -> bool:
        """Whether all of ``count`` were sent."""
        return self.total_sent == self._config.count

    def receive(self, room: int, now_ns: int) -> FrameBatch:
        """See :class:`~emulator.nic.wire.base.Wire`."""
        count = min(room, self._due(now_ns))
        if self._config.count is not None:
            count = min(count, self._config.count - self.total_sent)
        return self._take(count) if count > 0 else FrameBatch.empty()

    def transmit(self, frames: FrameBatch, now_ns: int) -> None:
        """See :class:`~emulator.nic.wire.base.Wire`: checks ``frames``."""
        self.checker.take(frames)

    def next_due_ns(self, now_ns: int) -> int | None:
        """See :class:`~emulator.nic.wire.base.Wire`."""
        rate = self._config.rate_pps
        if self.done:
            return None
        if rate is None or self._start_ns is None:
            return now_ns
        return self._start_ns - (-self.total_sent * NS_PER_S // rate)

    def _due(self, now_ns: int) -> int:
        """Frames due and not sent: the first when it was first asked for one."""
        rate = self._config.rate_pps
        if rate is None:
            return 1 << 62
        if self._start_ns is None:
            self._start_ns = now_ns
        return (now_ns - self._start_ns) * rate // NS_PER_S + 1 - self.total_sent

    def _take(self, count: int) -> FrameBatch:
        """The next ``count`` frames."""
        if self._position + count > len(self._stock):
            self._make(max(self._ahead, count))
        first = self._position
        self._position += count
        self.total_sent += count
        return self._stock[first : self._position]

    def _make(self, count: int) -> None:
        """A new stock: what is left of the old one, and ``count`` more."""
        config = self._config
        lengths = config.sizes.pick(self._size_rng.random(count))
        flows = (self._flow_rng.random(count) * config.flows).astype(np.int64)
        sequences = number(flows, self._made)
        left = slice(self._position, None)
        lengths = np.concatenate((self._stock.lengths[left], lengths))
        self._flows = np.concatenate((self._flows[left], flows))
        self._sequences = np.concatenate((self._sequences[left], sequences))
        self._stock = build(config.dst, config.src, self._flows, self._sequences, lengths)
        self._position = 0
