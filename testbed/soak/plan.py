# SPDX-License-Identifier: MIT
"""What a soak does, as data: legs of traffic, and what happens to the driver meanwhile.

A plan comes from a seed, is printed a line a leg, and the same lines make the same plan again. Only
the order and the figures are in it; how fast things go is the machine's.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from emulator.errors import DmabedError
from testbed.scenario import RX_MODES
from vm.machine import ALL_IOMMUS, Iommu

#: Those in which a life of the driver is traced: a page stays mapped, or none.
TRACED = ("page_pool", "map_per_packet")
#: Frames without FCS: the smallest, those of a usual MTU, those of one of 9000, all of one size.
SIZES = ((60, 60), (60, 1514), (60, 9014), (64, 64), (1514, 1514), (9014, 9014))
_SHARES = (5, 6, 2, 3, 1, 1)
RINGS = (64, 128, 256, 512, 1024)
#: Packets of a leg: of a mode that maps a page once, of one that maps every frame.
LEG_PACKETS, SLOW_LEG_PACKETS = 150_000, 1_500
#: While something else happens. A guest must not be overloaded then: freeing a page_pool's pages
#: lets softirqs run after each page, 64 frames at a time, and where each costs a millisecond (two
#: maps by way of another process) the kernel itself calls that a soft lockup.
PPS, SLOW_PPS = (200, 1000, 4000), (20, 100)
_SLOW = ("map_per_packet", "bulk_map")
#: Of a leg of long frames: a frame of 9 KiB costs what ten short ones do.
_LONG_SHARE = 4


class PlanError(DmabedError):
    """A line of a plan that cannot be read."""


class Kind(StrEnum):
    """What can happen while packets flow."""

    FLAP = "flap"  # milliseconds without a carrier
    RINGS = "rings"  # entries for receive and transmit, as `ethtool -G`
    CHANNELS = "channels"  # queue pairs, as `ethtool -L`
    MODE = "mode"  # interface down, another rx_mode, up
    RELOAD = "reload"  # interface down, module out and in again with that rx_mode, up
    SEND = "send"  # frames the host sends, their bytes
    SOCKET = "socket"  # MiB that a packet socket may hold; it is read three legs later
    RETAIN = "retain"  # frames that the stack keeps until the end of the leg
    TRACE = "trace"  # a life of the driver, load to unload, under the guest's own tracer


#: How many arguments each takes.
_TAKES = {
    Kind.FLAP: 1, Kind.RINGS: 2, Kind.CHANNELS: 1, Kind.MODE: 1, Kind.RELOAD: 1, Kind.SEND: 2,
    Kind.SOCKET: 1, Kind.RETAIN: 1, Kind.TRACE: 1,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing done; ``values`` as :class:`Kind` says."""

    kind: Kind
    values: tuple[str, ...]

    def __str__(self) -> str:
        """As in a plan's line: ``rings:128:512``."""
        return ":".join((self.kind, *self.values))

    @classmethod
    def parse(cls, text: str) -> Operation:
        """From its text. Raises: PlanError."""
        name, *values = text.split(":")
        if name not in set(Kind) or len(values) != _TAKES[Kind(name)] or not all(values):
            raise PlanError(f"{text!r} is no operation; one of: {', '.join(Kind)}, with its values")
        kind = Kind(name)
        named = kind in (Kind.MODE, Kind.RELOAD, Kind.TRACE)
        if not all(value in RX_MODES if named else value.isdigit() for value in values):
            raise PlanError(
                f"{text!r}: wants {'one of ' + ', '.join(RX_MODES) if named else 'numbers'}"
            )
        return cls(kind, tuple(values))

    @property
    def numbers(self) -> tuple[int, ...]:
        """The values, where they are numbers."""
        return tuple(map(int, self.values))


@dataclass(frozen=True, slots=True)
class Leg:
    """Frames of ``low`` to ``high`` bytes at ``pps`` while ``during`` is done, one after the other.

    Then ``count`` more, in ``bursts`` as fast as they are taken. echo: the guest sends all of them
    back.
    """

    low: int
    high: int
    count: int
    flows: int
    pps: int
    bursts: int
    echo: bool
    during: tuple[Operation, ...]

    def __str__(self) -> str:
        """As a plan's line."""
        figures = (
            f"bytes={self.low}-{self.high} count={self.count} flows={self.flows} pps={self.pps} "
            f"bursts={self.bursts} echo={int(self.echo)}"
        )
        return " ".join((figures, *map(str, self.during)))

    @classmethod
    def parse(cls, line: str) -> Leg:
        """From its line. Raises: PlanError."""
        words = line.split()
        figures = dict(word.split("=", 1) for word in words if "=" in word)
        try:
            low, high = map(int, figures.pop("bytes").split("-"))
            count, flows, pps, bursts, echo = (
                int(figures.pop(name)) for name in ("count", "flows", "pps", "bursts", "echo")
            )
        except (KeyError, ValueError) as error:
            raise PlanError(f"{line!r} is no leg: {error}") from None
        if figures or min(count, flows, pps, bursts) < 1 or not 60 <= low <= high <= 9014:
            raise PlanError(f"{line!r} is no leg: a figure is unknown or out of range")
        during = tuple(Operation.parse(word) for word in words if "=" not in word)
        return cls(low, high, count, flows, pps, bursts, bool(echo), during)


def counted(legs: Iterable[Leg]) -> Counter[Kind]:
    """How often each kind of operation is in them."""
    return Counter(operation.kind for leg in legs for operation in leg.during)


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole soak: ``seed``, of the frames; under each IOMMU its legs."""

    seed: int
    legs: dict[Iommu, list[Leg]]

    def __str__(self) -> str:
        """A line for the seed, one for each IOMMU, and below it one for each of its legs."""
        lines = [f"seed {self.seed}"]
        for iommu, legs in self.legs.items():
            lines += [f"iommu {iommu}", *map(str, legs)]
        return "\n".join(lines) + "\n"

    @classmethod
    def parse(cls, text: str) -> Plan:
        """From its text; lines that begin with ``#`` say nothing.

        Raises:
            PlanError: a line says what cannot be done, or stands in a wrong place.
        """
        seed: int | None = None
        legs: dict[Iommu, list[Leg]] = {}
        mine: list[Leg] | None = None
        for line in filter(None, map(str.strip, text.splitlines())):
            word, _, rest = line.partition(" ")
            if word == "seed" and seed is None and rest.isdigit():
                seed = int(rest)
            elif word == "iommu" and rest in ALL_IOMMUS and rest not in legs:
                mine = legs[rest] = []
            elif mine is not None and not line.startswith("#"):
                mine.append(Leg.parse(line))
            elif not line.startswith("#"):
                raise PlanError(f"{line!r}: a plan has a line seed N, then iommu NAME and its legs")
        if seed is None or not all(legs.values()) or not legs:
            raise PlanError("a plan has a line seed N and, under each line iommu NAME, legs")
        return cls(seed, legs)


def make_plan(seed: int, packets: int, iommus: Sequence[Iommu], queues: int) -> Plan:
    """A plan of ``packets`` or a few more, the same share of them under each of ``iommus``."""
    share = -(-packets // len(iommus))
    legs: dict[Iommu, list[Leg]] = {}
    for number, iommu in enumerate(iommus):
        mapped = iommu != "none"
        kinds = [kind for kind in Kind if mapped or kind is not Kind.TRACE]
        planner = Planner(seed * len(ALL_IOMMUS) + number, mapped, queues, kinds)
        legs[iommu] = legs_for(planner, share)
    return Plan(seed, legs)


class Planner:
    """Makes legs for ever.

    seed: of all that is random. mapped: a map costs something, so that legs of a mode that maps
    each frame, and of echoed frames, are short. queues: at most. kinds: what may happen; every one
    does in the first ``len(kinds)`` legs. modes: what may be loaded; the first is at the beginning.
    leg_packets: at most in a leg.
    """

    def __init__(
        self,
        seed: int,
        mapped: bool,
        queues: int,
        kinds: Sequence[Kind],
        modes: Sequence[str] = RX_MODES,
        leg_packets: int = LEG_PACKETS,
    ) -> None:
        self._leg_packets = leg_packets
        self._random = random.Random(seed)
        self._mapped, self._queues = mapped, queues
        self._kinds, self._modes = tuple(kinds), tuple(modes)
        self._mode = modes[0]

    @property
    def at_least(self) -> int:
        """Legs until every kind of operation was there."""
        return len(self._kinds)

    def legs(self) -> Iterator[Leg]:
        """One after the other."""
        first = self._random.sample(self._kinds, len(self._kinds))
        while True:
            at_least = [first.pop()] if first else []
            kinds = [*at_least, *self._random.choices(self._kinds, k=self._random.randint(0, 2))]
            modes = {self._mode}
            during = []
            for kind in kinds:
                during.append(self._operation(kind))
                modes.add(self._mode)
            yield self._leg(tuple(during), bool(modes.intersection(_SLOW)))

    def _leg(self, during: tuple[Operation, ...], slow_mode: bool) -> Leg:
        draw = self._random
        low, high = draw.choices(SIZES, _SHARES)[0]
        echo = draw.random() < 0.3
        slow = self._mapped and (echo or slow_mode)
        most = SLOW_LEG_PACKETS if slow else self._leg_packets
        most = most // _LONG_SHARE if high > 1514 else most
        return Leg(
            low,
            high,
            count=draw.randint(most // 2, most),
            flows=draw.choice((1, 2, 7, 16, 64)),
            pps=draw.choice(SLOW_PPS if slow else PPS),
            bursts=draw.choice((1, 1, 3, 8)),
            echo=echo,
            during=during,
        )

    def _operation(self, kind: Kind) -> Operation:
        draw = self._random
        match kind:
            case Kind.FLAP:
                values: tuple[object, ...] = (draw.choice((1, 5, 20, 100)),)
            case Kind.RINGS:
                values = draw.choice(RINGS), draw.choice(RINGS)
            case Kind.CHANNELS:
                values = (draw.randint(1, self._queues),)
            case Kind.MODE | Kind.RELOAD:
                self._mode = draw.choice(self._modes)
                values = (self._mode,)
            case Kind.SEND:
                values = draw.randint(20, 200), draw.choice((60, 1400, 9000))
            case Kind.SOCKET:
                values = (draw.choice((1, 4)),)
            case Kind.RETAIN:
                values = (draw.choice((16, 128, 512)),)
            case Kind.TRACE:
                self._mode = draw.choice(TRACED)
                values = (self._mode,)
        return Operation(kind, tuple(map(str, values)))


def legs_for(planner: Planner, packets: int) -> list[Leg]:
    """So many that they have ``packets`` at least, and every kind of operation once.

    What flows besides, while something happens, is not counted here.
    """
    legs: list[Leg] = []
    left = packets
    for leg in planner.legs():
        legs.append(leg)
        left -= leg.count
        if left <= 0 and len(legs) >= planner.at_least:
            break
    return legs
