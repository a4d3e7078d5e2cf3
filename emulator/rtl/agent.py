# SPDX-License-Identifier: MIT
"""The host's side of ATS: answers translation requests, sends invalidates, takes completions.

Every translation it gives has an address of its own (a number in bits 63:40 above the offset in
memory), so a request of the device tells which answer it was derived from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Final

from cocotb.triggers import Event
from cocotbext.pcie.core.tlp import CplStatus

from emulator.errors import DmabedError
from emulator.iommu.mapping import Mapping
from emulator.iommu.space import AddressSpace
from emulator.rtl.link import Link
from emulator.rtl.tlp import (
    PAGE,
    AtsTlp,
    completion,
    invalidate,
    invalidate_body,
    translation_entry,
)

GRANT_SHIFT: Final = 40
OFFSET_MASK: Final = (1 << GRANT_SHIFT) - 1
ITAGS: Final = 32
AGENT_ID: Final = 0x00C8
DEVICE_ID: Final = 0x0100
EVERYTHING: Final = 1 << 64


class AgentError(DmabedError):
    """The device broke the protocol with the agent."""


@dataclass(eq=False)
class Grant:
    """One translation given: ``size`` bytes from ``iova`` on, by ``mapping``, for ``pasid``.

    asked, delivered: numbers on the agent's count of events, of the look-up and of the answer's
    arrival at the device (None: under way). index: place within its completion.
    """

    number: int
    iova: int
    size: int
    pasid: int | None
    mapping: Mapping
    asked: int
    index: int
    delivered: int | None = None
    ended: list[Invalidation] = field(default_factory=list)
    reset: bool = False

    def iova_of(self, addr: int) -> int:
        """The IOVA that the translated address ``addr`` stands for."""
        return self.mapping.iova + (addr & OFFSET_MASK) - self.mapping.offset


@dataclass(eq=False)
class Invalidation:
    """One invalidate request; issued, delivered, completed: on the agent's count of events."""

    itag: int
    iova: int
    size: int
    pasid: int | None
    all_pasids: bool
    issued: int
    issued_cycle: int
    delivered: int | None = None
    delivered_cycle: int | None = None
    completed: int | None = None
    completed_cycle: int | None = None
    copies: int = 0
    reset: bool = False
    done: Event = field(default_factory=Event)

    def hits(self, iova: int, pasid: int | None) -> bool:
        """Whether it ends translations of the page of ``iova`` (rule R-11)."""
        inside = self.size >= EVERYTHING or self.iova <= iova < self.iova + self.size
        if self.pasid is None:
            return inside or pasid is not None
        return inside and pasid is not None and (self.all_pasids or pasid == self.pasid)


@dataclass
class Manners:
    """How the agent behaves; pairs are bounds of a random number of cycles.

    look, answer: from the request's arrival to the look-up, and from there to the answer. hold: a
    function asked for more cycles for this request, or None. split: chance of two completions.
    large: chance that a translation covers as much as it may. refuse: chance of a completion
    with an error status.
    """

    look: tuple[int, int] = (2, 10)
    answer: tuple[int, int] = (2, 40)
    hold: Callable[[AtsTlp], int] | None = None
    split: float = 0.3
    large: float = 0.5
    refuse: float = 0.0
    untranslated: Callable[[int], bool] = lambda iova: False


class TranslationAgent:
    """Translates for one device out of ``space`` (every PASID sees the same one)."""

    def __init__(self, link: Link, space: AddressSpace, rng: Random) -> None:
        self._link, self._space, self._rng = link, space, rng
        self.manners = Manners()
        self.device = DEVICE_ID
        self.grants: dict[int, Grant] = {}
        self._alive: list[Grant] = []
        self.pending: dict[int, Invalidation] = {}
        self.history: list[Invalidation] = []
        self.events = 0
        self.requests = 0
        self.on_issue: list[Callable[[Invalidation], None]] = []
        self.on_outcome: Callable[[str], None] = lambda name: None
        self._arriving: dict[int, Callable[[], None]] = {}
        link.sent_listeners.append(self._arrived)

    def tick(self) -> int:
        """The next number of an event: order is all that counts."""
        self.events += 1
        return self.events

    # ------------------------------------------------------------------ translations
    def request(self, tlp: AtsTlp) -> None:
        """The device asks for translations."""
        self.requests += 1
        extra = self.manners.hold(tlp) if self.manners.hold else 0
        if self._rng.random() < self.manners.refuse:
            self.on_outcome("error completion")
            status = self._rng.choice((CplStatus.UR, CplStatus.CA))
            self._link.after(1, lambda: self._link.send(completion(tlp, b"", 4, status)))
            return
        look = self._rng.randint(*self.manners.look)
        self._link.after(look, lambda: self._look_up(tlp, extra))

    def _look_up(self, tlp: AtsTlp, extra: int) -> None:
        entries, grants = self._entries(tlp)
        answer = extra + self._rng.randint(*self.manners.answer)
        self._link.after(answer, lambda: self._answer(tlp, entries, grants))

    def _entries(self, tlp: AtsTlp) -> tuple[list[bytes], list[Grant]]:
        """As many translations of one size as were asked for and can be given; at least one."""
        iova, entries, grants = tlp.addr, [], []
        mapping = self._space.find(iova)
        if self.manners.untranslated(iova):
            return [translation_entry(0, PAGE, True, True, True)], []
        if mapping is None:
            self.on_outcome("refused: no access")
            return [translation_entry(0, PAGE, False, False)], []
        size = self._size(mapping, iova)
        base = iova & ~(size - 1)
        for index in range(tlp.size // 8):
            at = base + index * size
            found = self._space.find(at)
            if found is None or at < found.iova or at + size > found.end:
                break
            offset = found.offset + at - found.iova
            if offset % size:
                break
            grant = Grant(len(self.grants) + 1, at, size, tlp.pasid, found, self.events, index)
            self.grants[grant.number] = grant
            self._alive.append(grant)
            grants.append(grant)
            addr = grant.number << GRANT_SHIFT | offset
            entries.append(translation_entry(addr, size, found.readable, found.writable))
        self.on_outcome("granted: larger" if size > PAGE else "granted: 4 KiB")
        if len(grants) > 1:
            self.on_outcome("granted: two at once")
        return entries, grants

    def _size(self, mapping: Mapping, iova: int) -> int:
        """4 KiB, or the largest aligned block of the mapping around ``iova``."""
        size = PAGE
        if self._rng.random() >= self.manners.large:
            return size
        while True:
            double = 2 * size
            base = iova & ~(double - 1)
            inside = base >= mapping.iova and base + double <= mapping.end
            if not inside or (mapping.offset + base - mapping.iova) % double:
                return size
            size = double

    def _answer(self, request: AtsTlp, entries: list[bytes], grants: list[Grant]) -> None:
        parts = [b"".join(entries)]
        if len(entries) > 1 and self._rng.random() < self.manners.split:
            parts = entries
            self.on_outcome("granted: split completion")
        left = sum(map(len, parts))
        for number, part in enumerate(parts):
            tlp = completion(request, part, left)
            here = grants if len(parts) == 1 else grants[number : number + 1]
            self._arriving[id(tlp)] = partial(self._granted, here)
            self._link.send(tlp)
            left -= len(part)

    def _granted(self, grants: list[Grant]) -> None:
        for grant in grants:
            grant.delivered = self.tick()
            if any(
                grant.asked < inv.issued and inv.delivered and inv.hits(grant.iova, grant.pasid)
                for inv in self.history[-ITAGS:]
            ):
                self.on_outcome("overtaken by invalidate")

    def _arrived(self, tlp: AtsTlp) -> None:
        call = self._arriving.pop(id(tlp), None)
        if call:
            call()

    # ------------------------------------------------------------------ invalidations
    def start_invalidate(
        self,
        iova: int,
        size: int,
        pasid: int | None = None,
        all_pasids: bool = False,
        tc: int = 0,
        body: bytes | None = None,
    ) -> Invalidation:
        """Sends an invalidate request.

        body: its payload, if not what address and size say.

        Raises:
            AgentError: all 32 ITags are in use.
        """
        free = [itag for itag in range(ITAGS) if itag not in self.pending]
        if not free:
            raise AgentError("32 invalidates are under way already")
        itag = self._rng.choice(free)
        inv = Invalidation(itag, iova, size, pasid, all_pasids, self.tick(), self._link.cycle)
        self.pending[itag] = inv
        self.history.append(inv)
        for listener in self.on_issue:
            listener(inv)
        body = body or invalidate_body(iova, size, all_pasids)
        tlp = invalidate(itag, body, AGENT_ID, pasid, tc, self.device)
        self._arriving[id(tlp)] = partial(self._delivered, inv)
        self._link.send(tlp)
        return inv

    async def invalidate(
        self, iova: int, size: int, pasid: int | None = None, all_pasids: bool = False
    ) -> Invalidation:
        """Sends one and waits for its completion."""
        while len(self.pending) == ITAGS:
            await next(iter(self.pending.values())).done.wait()
        inv = self.start_invalidate(iova, size, pasid, all_pasids)
        await inv.done.wait()
        return inv

    def _delivered(self, inv: Invalidation) -> None:
        inv.delivered, inv.delivered_cycle = self.tick(), self._link.cycle

    def completed(self, tlp: AtsTlp) -> list[Invalidation]:
        """The device answers; returns what that completes."""
        over = []
        for itag in range(ITAGS):
            inv = self.pending.get(itag)
            if not tlp.itags >> itag & 1 or inv is None:
                continue
            inv.copies += 1
            if inv.copies < tlp.copies:
                continue
            del self.pending[itag]
            inv.completed, inv.completed_cycle = self.tick(), self._link.cycle
            self._end(inv)
            over.append(inv)
            inv.done.set()
        return over

    def _end(self, inv: Invalidation) -> None:
        """Notes at every translation given before ``inv`` what it took away."""
        alive = []
        for grant in self._alive:
            if grant.asked < inv.issued:
                grant.ended.append(inv)
            if (
                grant.size > PAGE
                or grant.asked >= inv.issued
                or not inv.hits(grant.iova, grant.pasid)
            ):
                alive.append(grant)
        self._alive = alive

    def device_reset(self) -> None:
        """A function-level reset: the device forgets translations and invalidates alike."""
        for grant in self.grants.values():
            grant.reset = True
        for inv in list(self.pending.values()):
            inv.reset = True
            inv.done.set()
        self.pending.clear()
