# SPDX-License-Identifier: MIT
"""Checks K1 to K15 as small judges of the TLP stream; a scoreboard calls them in order of time.

A judge sees every request of the device with the translation its address came from, every
invalidate with the moments it was issued, delivered and completed, and every change of
configuration. What it finds is kept under its name; nothing is raised until the test asks.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from cocotbext.pcie.core.tlp import TlpAttr

from emulator.rtl.agent import AGENT_ID, GRANT_SHIFT, Grant, Invalidation, TranslationAgent
from emulator.rtl.host import RootComplex
from emulator.rtl.link import Link
from emulator.rtl.tlp import PAGE, AtsTlp, Kind


@dataclass(frozen=True)
class Finding:
    """What check ``name`` saw."""

    name: str
    text: str


class Check:
    """One rule. Hooks do nothing unless overridden."""

    name = ""

    def __init__(self, board: Scoreboard) -> None:
        self.board = board

    def found(self, text: str) -> None:
        self.board.findings.append(Finding(self.name, text))

    def request(self, tlp: AtsTlp, grant: Grant | None, iova: int) -> None:
        """A memory request left the device."""

    def completed(self, tlp: AtsTlp, over: list[Invalidation]) -> None:
        """An invalidate completion left the device; ``over``: what it completes."""

    def finish(self) -> None:
        """The test is over."""


class StaleUse(Check):
    """After the completion of an invalidate, a request used a translation that it ended."""

    def request(self, tlp: AtsTlp, grant: Grant | None, iova: int) -> None:
        if grant is None:
            return
        for inv in grant.ended:
            if inv.hits(iova & -PAGE, grant.pasid) and self.concerns(grant, inv, tlp):
                self.found(f"{tlp} uses the translation of {iova:#x}, ended by ITag {inv.itag}")
                return

    def concerns(self, grant: Grant, inv: Invalidation, tlp: AtsTlp) -> bool:
        return True


class K1NoStaleAfterCompletion(StaleUse):
    name = "K1"


class K4TranslationInFlight(StaleUse):
    """The translation arrived after the invalidate, and was used all the same."""

    name = "K4"

    def concerns(self, grant: Grant, inv: Invalidation, tlp: AtsTlp) -> bool:
        return _overtaken(grant, inv)


class K5CrossBoundary(K4TranslationInFlight):
    """As K4, for the second translation of one request."""

    name = "K5"

    def concerns(self, grant: Grant, inv: Invalidation, tlp: AtsTlp) -> bool:
        return grant.index > 0 and _overtaken(grant, inv)


class K6RangeCoding(StaleUse):
    """A range of more than one page was not ended as a whole."""

    name = "K6"

    def concerns(self, grant: Grant, inv: Invalidation, tlp: AtsTlp) -> bool:
        return inv.size > PAGE and not _overtaken(grant, inv)


class K7Endianness(StaleUse):
    """The very page that was named is still in use."""

    name = "K7"

    def concerns(self, grant: Grant, inv: Invalidation, tlp: AtsTlp) -> bool:
        return inv.size == PAGE and inv.pasid is None and not _overtaken(grant, inv)


class K13Pasid(StaleUse):
    """A translation of a PASID outlived an invalidate that rule R-11 lets reach it."""

    name = "K13"

    def concerns(self, grant: Grant, inv: Invalidation, tlp: AtsTlp) -> bool:
        return grant.pasid is not None or inv.pasid is not None


def _overtaken(grant: Grant, inv: Invalidation) -> bool:
    return grant.delivered is not None and (inv.delivered or 0) < grant.delivered


class K2ReadsDrained(Check):
    """An invalidate was completed while a read with a stale address waited for its data."""

    name = "K2"

    def completed(self, tlp: AtsTlp, over: list[Invalidation]) -> None:
        for inv in over:
            for read, grant, iova in self.board.reads.values():
                old = grant is not None and grant.asked < inv.issued
                if old and inv.hits(iova & -PAGE, grant.pasid) and not self.board.given_up(read):
                    self.found(f"{tlp} while {read} at {iova:#x} is unanswered")


class K3WritesPushed(StaleUse):
    """A stale write was not ahead of the completion, or nothing kept it ahead."""

    name = "K3"

    def concerns(self, grant: Grant, inv: Invalidation, tlp: AtsTlp) -> bool:
        return tlp.kind is Kind.WRITE

    def completed(self, tlp: AtsTlp, over: list[Invalidation]) -> None:
        if tlp.attr & (TlpAttr.RO | TlpAttr.IDO):
            self.found(f"{tlp} may pass writes: relaxed or ID-based ordering is set")
        others = {tc for tc in self.board.write_classes if tc != tlp.tc}
        if others:
            self.found(f"{tlp} in TC {int(tlp.tc)}, writes in {sorted(others)}: it pushes none")


class K8TagsAndCopies(Check):
    """ITag vector, CC, requester and target of a completion."""

    name = "K8"

    def completed(self, tlp: AtsTlp, over: list[Invalidation]) -> None:
        if tlp.itags == 0:
            self.found(f"{tlp}: no ITag")
        known = {inv.itag: inv for inv in self.board.known}
        for itag in (i for i in range(32) if tlp.itags >> i & 1):
            if itag not in known or known[itag].delivered is None:
                self.found(f"{tlp}: ITag {itag} is not outstanding")
        if tlp.copies != 1:
            self.found(f"{tlp}: CC {tlp.copies}, and a device of one traffic class sends one")
        if int(tlp.completer_id) != AGENT_ID or int(tlp.requester_id) != self.board.requester:
            self.found(f"{tlp}: from {tlp.requester_id} to {tlp.completer_id}")


class K9Completes(Check):
    """Every invalidate is completed, whatever the state of the function, in bounded time."""

    name = "K9"

    def finish(self) -> None:
        for inv in self.board.agent.pending.values():
            self.found(f"ITag {inv.itag}, issued in cycle {inv.issued_cycle}, has no completion")


class K10FunctionLevelReset(Check):
    """Nothing from before a function-level reset is used or answered after it."""

    name = "K10"

    def request(self, tlp: AtsTlp, grant: Grant | None, iova: int) -> None:
        if grant is not None and grant.reset:
            self.found(f"{tlp} uses a translation from before the reset")
        if self.board.in_reset:
            self.found(f"{tlp} before bus mastering was enabled again")

    def completed(self, tlp: AtsTlp, over: list[Invalidation]) -> None:
        if not over:
            self.found(f"{tlp} answers what was dropped by a reset, or nothing")


class K11Progress(Check):
    """Under a storm of invalidates both they and the traffic get on."""

    name = "K11"

    def finish(self) -> None:
        done = [inv for inv in self.board.agent.history if inv.completed is not None]
        if self.board.storm and not (done and self.board.kinds[Kind.WRITE]):
            self.found(f"{len(done)} invalidates, {self.board.kinds[Kind.WRITE]} writes")


class K12ErrorsRetire(Check):
    """A read that failed or was given up does not hold an invalidate for ever."""

    name = "K12"

    def finish(self) -> None:
        if self.board.failed_reads:
            for inv in self.board.agent.pending.values():
                self.found(f"ITag {inv.itag} waits for a read that is over")


class K14Data(Check):
    """What arrives is what was sent, from a working set larger than the cache."""

    name = "K14"

    def compare(self, what: str, seen: bytes, expected: bytes) -> None:
        """Finds a difference."""
        if seen != expected:
            at = next(
                (i for i, (a, b) in enumerate(zip(seen, expected, strict=False)) if a != b), -1
            )
            self.found(f"{what}: {len(seen)} for {len(expected)} bytes, first difference at {at}")


class K15NoTranslatedWithoutAts(Check):
    """A translated address while ATS is off, or one that nobody gave."""

    name = "K15"

    def request(self, tlp: AtsTlp, grant: Grant | None, iova: int) -> None:
        if tlp.translated and (grant is None or not self.board.ats):
            self.found(f"{tlp}: ATS is {'on' if self.board.ats else 'off'}")
        if tlp.kind is Kind.TRANSLATION and not self.board.ats:
            self.found(f"{tlp}: ATS is off")


class Format(Check):
    """Within 4 KiB, MPS and MRRS; no tag twice; no DMA while bus mastering is off."""

    name = "format"

    def request(self, tlp: AtsTlp, grant: Grant | None, iova: int) -> None:
        limit = {Kind.WRITE: self.board.mps, Kind.READ: self.board.mrrs}.get(tlp.kind, PAGE)
        if tlp.addr % PAGE + tlp.size > PAGE or not 0 < tlp.size <= limit:
            self.found(f"{tlp}: crosses 4 KiB or is longer than {limit}")
        if tlp.kind is Kind.READ and tlp.tag in self.board.reads:
            self.found(f"{tlp}: tag {tlp.tag} is in use")
        if not self.board.bus_master:
            self.found(f"{tlp}: bus mastering is off")
        if tlp.tc or int(tlp.requester_id) != self.board.requester or not tlp.check():
            self.found(f"{tlp}: TC {int(tlp.tc)}, requester {tlp.requester_id}, or malformed")


CHECKS = (
    K1NoStaleAfterCompletion, K2ReadsDrained, K3WritesPushed, K4TranslationInFlight,
    K5CrossBoundary, K6RangeCoding, K7Endianness, K8TagsAndCopies, K9Completes,
    K10FunctionLevelReset, K11Progress, K12ErrorsRetire, K13Pasid, K14Data,
    K15NoTranslatedWithoutAts, Format,
)  # fmt: skip


class Scoreboard:
    """Watches a device's link; ``findings`` is what the checks have to say.

    mps, mrrs, requester, ats, bus_master, in_reset: what holds now, set by whoever configures the
    device, once the change is in force. timeout: cycles after which the device may give a read up.
    """

    def __init__(self, link: Link, agent: TranslationAgent, host: RootComplex) -> None:
        self.agent, self._host, self._link = agent, host, link
        self.findings: list[Finding] = []
        self.checks = [check(self) for check in CHECKS]
        self.mps, self.mrrs, self.requester = 256, 512, 0x0100
        self.ats = self.bus_master = self.in_reset = self.storm = False
        self.timeout = 1 << 62
        self.kinds: Counter[Kind] = Counter()
        self.reads: dict[int, tuple[AtsTlp, Grant | None, int]] = {}
        self.write_classes: set[int] = set()
        self.known: list[Invalidation] = []
        self.failed_reads = 0
        link.listeners.insert(0, self._sent)
        host.on_final.append(self._final)
        agent.on_issue.append(self._issued)

    def given_up(self, read: AtsTlp) -> bool:
        """Its completion time-out has passed."""
        return self._link.cycle - read.time > self.timeout

    def _issued(self, inv: Invalidation) -> None:
        self.known.append(inv)

    def _sent(self, tlp: AtsTlp) -> None:
        self.kinds[tlp.kind] += 1
        if tlp.kind is Kind.INV_CPL:
            self._completed(tlp)
            return
        grant = self.agent.grants.get(tlp.addr >> GRANT_SHIFT) if tlp.translated else None
        iova = grant.iova_of(tlp.addr) if grant else tlp.addr
        for check in self.checks:
            check.request(tlp, grant, iova)
        if tlp.kind is Kind.READ:
            self.reads[tlp.tag] = (tlp, grant, iova)
        elif tlp.kind is Kind.WRITE:
            self.write_classes.add(int(tlp.tc))

    def _completed(self, tlp: AtsTlp) -> None:
        over = [
            self.agent.pending[i]
            for i in range(32)
            if tlp.itags >> i & 1 and i in self.agent.pending
        ]
        for check in self.checks:
            check.completed(tlp, over)
        self.known = [inv for inv in self.known if inv not in over]

    def _final(self, tag: int) -> None:
        self.reads.pop(tag, None)

    def reset(self) -> None:
        """A function-level reset took effect."""
        self.reads.clear()
        self.known.clear()
        self.in_reset, self.ats, self.bus_master = True, False, False
        self.agent.device_reset()

    def check(self, name: str) -> Check:
        """The judge of that name."""
        return next(check for check in self.checks if check.name == name)

    def finish(self) -> list[Finding]:
        """Everything found."""
        for check in self.checks:
            check.finish()
        return self.findings
