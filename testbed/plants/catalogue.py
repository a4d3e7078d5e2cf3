# SPDX-License-Identifier: MIT
"""The bugs, the rules that have to find them, and the scene in which each shows."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from testbed.scenario import Strategy


class Scene(StrEnum):
    """What happens between load and unload of the driver."""

    TRAFFIC = "packets come in"
    SEND = "frames in pieces are sent, one cannot be mapped"
    RELOAD = "the rings are resized, which fails"
    HOLD = "the stack holds on to packets"
    LATE = "the stack looks at packets again, late"
    LIES = "the device lies about which buffer it filled"
    TWO = "there is another NIC"


@dataclass(frozen=True, slots=True)
class PlantedBug:
    """Plant ``number``; one of ``rules`` has to speak. strategy: with which it shows."""

    number: int
    bug: str
    rules: tuple[str, ...]
    strategy: Strategy
    scene: Scene = Scene.TRAFFIC

    @property
    def name(self) -> str:
        """As in tables: ``P1``."""
        return f"P{self.number}"


@dataclass(frozen=True, slots=True)
class Catch:
    """What happened to a plant on a rung.

    spoke: rules that spoke, in order. latency_ns: from the plant's first act to the first of its
    rules (None: none spoke, or the plant never acted). said: that violation in words. kernel: what
    the checkers of the guest's kernel said, in the words of O-20.
    """

    plant: PlantedBug
    rung: str
    spoke: tuple[str, ...]
    latency_ns: int | None
    said: str = ""
    kernel: tuple[str, ...] = ()

    @property
    def caught(self) -> bool:
        """One of the rules named spoke."""
        return any(rule in self.spoke for rule in self.plant.rules)


_POOL: Strategy = "page_pool"
_MAP: Strategy = "map_per_packet"

BUGS: tuple[PlantedBug, ...] = (
    PlantedBug(1, "unmap a buffer before its ring is stopped", ("O-3",), _MAP),
    PlantedBug(2, "skip the unmap on an error path", ("O-7",), _MAP, Scene.SEND),
    PlantedBug(3, "unmap a page that the page_pool also unmaps", ("O-3", "O-20"), _POOL),
    PlantedBug(4, "unmap one page less than was mapped", ("O-7",), _MAP),
    PlantedBug(
        5, "free the pages when a reload fails, restart the ring", ("O-3",), _MAP, Scene.RELOAD
    ),
    PlantedBug(
        6, "recycle a page while the stack still reads it", ("O-5", "O-6"), _POOL, Scene.LATE
    ),
    PlantedBug(8, "destroy the pool while NAPI still runs", ("O-3", "O-5"), _POOL),
    PlantedBug(10, "trust index and length that the device wrote", ("O-20",), _POOL, Scene.LIES),
    PlantedBug(13, "leave bus mastering on after remove", ("O-7", "O-11"), _MAP),
    PlantedBug(15, "take pages from the pool of another device", ("O-2",), _POOL, Scene.TWO),
    PlantedBug(17, "map with another device's struct device", ("O-2",), _MAP, Scene.TWO),
    PlantedBug(18, "build_skb in a page the device can still write", ("O-16",), _MAP),
    PlantedBug(
        19, "unbind while the stack still holds pages of the pool", ("O-7",), _POOL, Scene.HOLD
    ),
    PlantedBug(20, "use a DMA address without dma_mapping_error", ("O-1",), _MAP),
    PlantedBug(21, "ifdown waits for what nobody is going to say", ("O-17",), _MAP),
)


def first_of(
    plant: PlantedBug, rung: str, acted_ns: int | None, violations: list[tuple[str, int, str]]
) -> Catch:
    """What the violations (rule, time, words) of a run make of a plant."""
    spoke = tuple(dict.fromkeys(rule for rule, _, _ in violations))
    kernel = tuple(words for rule, _, words in violations if rule == "O-20")
    named = [entry for entry in violations if entry[0] in plant.rules]
    if not named:
        return Catch(plant, rung, spoke, None, kernel=kernel)
    _, at_ns, said = min(named, key=lambda entry: entry[1])
    took_ns = None if acted_ns is None else max(at_ns - acted_ns, 0)
    return Catch(plant, rung, spoke, took_ns, said, kernel)
