# SPDX-License-Identifier: MIT
"""How long the IOMMU takes, as the guest feels it: the delay before the reply to a map or unmap.

QEMU waits for each reply with the guest CPU stopped, so the delay is the cost of the operation.
The caller does the waiting; a model only says how long. Times are ns.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from emulator.errors import DmabedError

MESSAGE_TIMEOUT_MS = 5000
_MARGIN = 2
_BLOCK = 1024


class LatencyError(DmabedError):
    """A latency that makes no sense; the text says which and what is allowed."""


class Shape(StrEnum):
    """How the fixed part of a delay is distributed.

    ``spread_ns`` is: constant: 0; uniform: half the width; normal: the standard deviation
    (truncated to [0, max_ns]); lognormal: the standard deviation, ``mean_ns`` being the mean;
    exponential: unused.
    """

    CONSTANT = "constant"
    UNIFORM = "uniform"
    NORMAL = "normal"
    LOGNORMAL = "lognormal"
    EXPONENTIAL = "exponential"


@dataclass(frozen=True, slots=True)
class Delay:
    """A fixed part drawn from ``shape``, cut to [0, max_ns], plus ``per_page_ns`` for each page.

    ``max_ns`` 0: for bounded shapes none is needed; unbounded ones need it.

    Raises:
        LatencyError: negative numbers, or an unbounded shape without ``max_ns``.
    """

    mean_ns: int = 0
    per_page_ns: int = 0
    shape: Shape = Shape.CONSTANT
    spread_ns: int = 0
    max_ns: int = 0

    def __post_init__(self) -> None:
        for name in ("mean_ns", "per_page_ns", "spread_ns", "max_ns"):
            if getattr(self, name) < 0:
                raise LatencyError(f"{name} is {getattr(self, name)}: must not be negative")
        if self.shape not in (Shape.CONSTANT, Shape.UNIFORM) and not self.max_ns:
            raise LatencyError(f"shape {self.shape.value} has no bound: max_ns is needed")
        if self.max_ns and self.max_ns < self.mean_ns:
            raise LatencyError(f"max_ns {self.max_ns} is below mean_ns {self.mean_ns}")
        if self.shape is Shape.LOGNORMAL and not self.mean_ns:
            raise LatencyError("shape lognormal needs a mean_ns above 0")

    def worst_ns(self, pages: int) -> int:
        """No delay of ``pages`` pages is longer."""
        widest = self.mean_ns + (self.spread_ns if self.shape is Shape.UNIFORM else 0)
        return (self.max_ns or widest) + self.per_page_ns * pages

    def draw(self, random: np.random.Generator, count: int) -> list[int]:
        """``count`` fixed parts in ns."""
        mean, spread = float(self.mean_ns), float(self.spread_ns)
        if self.shape is Shape.CONSTANT:
            drawn = np.full(count, mean)
        elif self.shape is Shape.UNIFORM:
            drawn = random.uniform(mean - spread, mean + spread, count)
        elif self.shape is Shape.NORMAL:
            drawn = random.normal(mean, spread, count)
        elif self.shape is Shape.EXPONENTIAL:
            drawn = random.exponential(mean, count)
        else:
            variance = np.log1p((spread / mean) ** 2)
            drawn = random.lognormal(np.log(mean) - variance / 2, np.sqrt(variance), count)
        ceiling = self.worst_ns(0)
        whole: list[int] = np.clip(np.rint(drawn), 0, ceiling).astype(np.int64).tolist()
        return whole


class _Source:
    """Fixed parts of one delay, drawn in blocks: a draw each would cost more than the delay."""

    def __init__(self, delay: Delay, random: np.random.Generator) -> None:
        self.delay = delay
        self._random = random
        self._drawn: list[int] = []

    def next_ns(self, pages: int) -> int:
        delay = self.delay
        if delay.shape is Shape.CONSTANT:
            return delay.mean_ns + delay.per_page_ns * pages
        if not self._drawn:
            self._drawn = delay.draw(self._random, _BLOCK)
        return self._drawn.pop() + delay.per_page_ns * pages


class LatencyModel:
    """Delays of maps and unmaps; repeats itself for the same ``seed`` and calls.

    Args:
        name: of the preset, for reports.
        map_delay, unmap_delay: see :class:`Delay`.
        seed: of both sequences.
        max_pages: a longer mapping or unmap pays for this many pages: the walk is bounded, and
            so is the time that a client has to wait.
    """

    def __init__(
        self,
        name: str = "none",
        map_delay: Delay | None = None,
        unmap_delay: Delay | None = None,
        seed: int = 1,
        max_pages: int = 512,
    ) -> None:
        if max_pages < 1:
            raise LatencyError(f"max_pages is {max_pages}: must be at least 1")
        self.name, self.seed, self.max_pages = name, seed, max_pages
        streams = np.random.default_rng(seed).spawn(2)
        self._map = _Source(map_delay or Delay(), streams[0])
        self._unmap = _Source(unmap_delay or Delay(), streams[1])

    @property
    def map_delay(self) -> Delay:
        """Of maps."""
        return self._map.delay

    @property
    def unmap_delay(self) -> Delay:
        """Of unmaps."""
        return self._unmap.delay

    def map_delay_ns(self, pages: int) -> int:
        """How long to wait before the reply to a map of ``pages`` pages."""
        return self._map.next_ns(min(pages, self.max_pages))

    def unmap_delay_ns(self, pages: int) -> int:
        """How long to wait before the reply to an unmap that removed ``pages`` pages."""
        return self._unmap.next_ns(min(pages, self.max_pages))

    @property
    def worst_case_ns(self) -> int:
        """No single reply waits longer."""
        delays = (self.map_delay, self.unmap_delay)
        return max(delay.worst_ns(self.max_pages) for delay in delays)

    def required_timeout_ms(self) -> int:
        """The ``x-msg-timeout`` that QEMU needs: twice the worst delay, at least its default."""
        return max(MESSAGE_TIMEOUT_MS, -(-self.worst_case_ns * _MARGIN // 1_000_000))

    def refuse_beyond(self, timeout_ms: int) -> None:
        """Checks the model against the timeout of a running client, before it replaces another.

        Raises:
            LatencyError: a reply could come after the client has given up.
        """
        if self.required_timeout_ms() > timeout_ms:
            raise LatencyError(
                f"latency '{self.name}': a reply may take {self.worst_case_ns} ns, the client "
                f"waits {timeout_ms} ms; start QEMU with x-msg-timeout={self.required_timeout_ms()}"
            )


class LatencyKnob:
    """The model in force: replaced while the guest runs, within the client's timeout."""

    def __init__(self, model: LatencyModel, timeout_ms: int = MESSAGE_TIMEOUT_MS) -> None:
        model.refuse_beyond(timeout_ms)
        self.model = model
        self.timeout_ms = timeout_ms

    def replace(self, model: LatencyModel) -> None:
        """Puts ``model`` in force from the next reply on.

        Raises:
            LatencyError: it needs a longer timeout; the old model stays.
        """
        model.refuse_beyond(self.timeout_ms)
        self.model = model
