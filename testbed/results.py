# SPDX-License-Identifier: MIT
"""What a run found out: typed, frozen, and the same again after a trip through JSON.

Counts are the device's (what it saw on its socket), rates and times the guest's (its own clock).
``results.json`` carries the name of its schema; a file with any other name is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from testbed.errors import ResultsError
from testbed.scenario import RX_MODES, STRATEGIES, Case, Iommu, RxMode, Strategy
from testbed.strict_json import AtLeast, decode, parse_json, to_json

#: Changes whenever a field is added, removed or means something else.
SCHEMA = "dmabed.results/3"

Verdict = Literal["clean", "exposed", "violated"]
Count = Annotated[int, AtLeast(0)]
Amount = Annotated[float, AtLeast(0)]


@dataclass(frozen=True, slots=True)
class CaseResult:
    """One case: a strategy under an IOMMU with one frame size.

    Attributes:
        packets: received in the steady window.
        maps, unmaps: the device's counts in the same window, in messages.
        maps_per_packet, unmaps_per_packet: those counts over ``packets``.
        packets_per_second: of the guest's own clock.
        map_ns, unmap_ns: mean time of one map and one unmap as the guest felt it (ns); None when
            the guest made none that it could time. ``*_p50_ns`` are the medians.
        live_after_release: mappings alive when the guest said it had given all memory back.
        stale_at_once: the most mappings known to have outlived their memory together: those that a
            lazy guest removed in one row (``emulator.ledger.flush``), or left after release.
        stale_window_ns: the longest time (ns) that a mapping outlived its memory; None: none did.
        stale_open: that window had not closed when we stopped looking, so it is a lower bound.
        verdict: ``violated`` if a rule was, else ``exposed`` if a mapping outlived its memory.
        violations: the ledger's sentences, one each.
        notes: what a reader has to know about this case.
    """

    strategy: RxMode
    iommu: Iommu
    frame_bytes: Annotated[int, AtLeast(1)]
    packets: Count
    maps: Count
    unmaps: Count
    maps_per_packet: Amount
    unmaps_per_packet: Amount
    packets_per_second: Amount
    live_after_release: Count
    verdict: Verdict
    stale_at_once: Count = 0
    map_ns: Amount | None = None
    unmap_ns: Amount | None = None
    map_p50_ns: Amount | None = None
    unmap_p50_ns: Amount | None = None
    stale_window_ns: Count | None = None
    stale_open: bool = False
    violations: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def case(self) -> Case:
        """Which cell of the matrix this is."""
        return Case(self.strategy, self.iommu, self.frame_bytes)


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """One point of the amortisation curve: ``latency_us`` added to each map and to each unmap.

    ``ratio`` is to the rate of the same strategy at latency 0. The counts per packet are the
    device's, and None where they were not taken.
    """

    strategy: Strategy
    iommu: Iommu
    latency_us: Amount
    packets_per_second: Amount
    packets: Count
    seconds: Amount
    ratio: Amount
    maps_per_packet: Amount | None = None
    unmaps_per_packet: Amount | None = None


@dataclass(frozen=True, slots=True)
class BenchRow:
    """One NIC behind one IOMMU: the median of ``samples``, all in packets per second."""

    nic: str
    iommu: str
    frame_bytes: Annotated[int, AtLeast(1)]
    packets_per_second: Amount
    samples: tuple[Amount, ...]


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What the figures depend on; ``accel`` is what the guest ran under."""

    cpu_count: Annotated[int, AtLeast(1)]
    accel: Literal["kvm", "tcg"]
    cpu_model: str = ""
    system: str = ""


@dataclass(frozen=True, slots=True)
class RuleSeen:
    """A rule of the ledger in one boot; ``not_judged``: what of it was not, and why (all: "needs").

    Empty: it was judged in full.
    """

    number: str
    title: str
    not_judged: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the ledger could judge in the boot ``boot``: an IOMMU, or ``curve``."""

    boot: str
    rules: tuple[RuleSeen, ...]


@dataclass(frozen=True, slots=True)
class RunResult:
    """A whole run. ``created`` is ISO 8601 with offset; ``log_files`` are names in the folder."""

    created: str
    scenario: str
    title: str
    seed: Count
    command: str
    host: HostFacts
    qemu_version: str
    kernel_release: str
    cases: tuple[CaseResult, ...] = ()
    curve: tuple[CurvePoint, ...] = ()
    bench: tuple[BenchRow, ...] = ()
    judged: tuple[Judgement, ...] = ()
    log_files: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    schema: str = SCHEMA

    def to_json(self) -> str:
        """The text of results.json.

        Raises:
            ResultsError: a field holds what its type does not allow, NaN for example.
        """
        return to_json(self)

    @staticmethod
    def from_json(text: str | bytes) -> RunResult:
        """A run from the text of results.json.

        Raises:
            ResultsError: not JSON, another schema, or a key too many, too few or of a wrong kind.
        """
        document = parse_json(text)
        schema = document.get("schema") if isinstance(document, dict) else None
        if schema != SCHEMA:
            raise ResultsError("schema", _schema_refusal(schema))
        run: RunResult = decode(RunResult, document, "")
        return run

    @staticmethod
    def load(path: Path) -> RunResult:
        """As :meth:`from_json`, from a file, which the error then names.

        Raises:
            ResultsError: as there, or the file cannot be read.
        """
        try:
            return RunResult.from_json(path.read_bytes())
        except OSError as error:
            raise ResultsError(str(path), error.strerror or "cannot be read") from error
        except ResultsError as error:
            raise ResultsError(str(path), str(error)) from None


def baseline(case: CaseResult, cases: tuple[CaseResult, ...]) -> CaseResult | None:
    """What the rate of ``case`` is compared with: page_pool without an IOMMU, same frame size."""
    return find_case(cases, "page_pool", "none", case.frame_bytes)


def find_case(
    cases: tuple[CaseResult, ...], strategy: RxMode, iommu: Iommu, frame_bytes: int
) -> CaseResult | None:
    """The result of one cell of the matrix; None when it was not run."""
    wanted = Case(strategy, iommu, frame_bytes)
    return next((each for each in cases if each.case == wanted), None)


def shown_strategies(run: RunResult) -> list[RxMode]:
    """Those that a picture of the cases has room for: the pair, and what else was run."""
    ran = {case.strategy for case in run.cases}
    return [mode for mode in RX_MODES if mode in STRATEGIES or mode in ran]


def rate_ratio(case: CaseResult, reference: CaseResult | None) -> float | None:
    """The rate of ``case`` over that of ``reference``; None when there is nothing to divide by."""
    if reference is None or reference.packets_per_second == 0:
        return None
    return case.packets_per_second / reference.packets_per_second


def _schema_refusal(schema: object) -> str:
    if isinstance(schema, str):
        return f'"{schema[:60]}" is unknown; this version reads: {SCHEMA}'
    return f"missing, so this is no results file of dmabed; this version reads: {SCHEMA}"
