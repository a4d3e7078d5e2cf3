# SPDX-License-Identifier: MIT
"""What to run: a scenario file (TOML) as frozen dataclasses, or a refusal that helps.

A refusal names file, line, key, what is wrong and what is allowed, for everything wrong at once.
Times in a scenario are seconds or microseconds (people write them); the run turns them into
integer nanoseconds.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from emulator.fields import (
    Choice,
    Fault,
    Integer,
    ListOf,
    Number,
    Text,
    build_table,
    did_you_mean,
    show,
    table_faults,
)
from emulator.toml_lines import KeyPath, error_line, key_lines
from testbed.errors import Problem, ScenarioError, ScenarioMissingError
from vm.machine import ALL_IOMMUS
from vm.machine import IOMMUS as IOMMUS
from vm.machine import Iommu as Iommu

T = TypeVar("T")

Strategy = Literal["page_pool", "map_per_packet"]
RxMode = Literal[
    "page_pool",
    "map_per_packet",
    "array_cache",
    "half_page_flip",
    "order_fallback",
    "order0_recycle",
    "shadow_copy",
    "bulk_map",
]
"""The kernel driver's ``rx_mode``, in the order of its table (dmabed_rx_modes.c)."""
BenchNic = Literal["dmabed page_pool", "dmabed map_per_packet", "virtio-net", "e1000e", "igb"]

STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)
"""The pair that the run's curve and findings put side by side."""
RX_MODES: tuple[RxMode, ...] = get_args(RxMode)
SCENARIO_DIR = Path(__file__).parent / "scenarios"
PRESET_DIR = Path(__file__).parent.parent / "emulator" / "iommu" / "presets"

#: A scenario is a page of text; the limit keeps hostile input cheap.
MAX_BYTES = 16 * 1024
#: QEMU gives a vfio-user message 5 s; a delay has to stay well below.
MAX_LATENCY_US = 4_000_000

_FRAMES = ListOf(Integer(64, 9000))
_SECONDS = Number(0.05, 600, "seconds")
_WARMUP = Number(0, 60, "seconds")


@dataclass(frozen=True, slots=True)
class Case:
    """One cell of the matrix."""

    strategy: RxMode
    iommu: Iommu
    frame_bytes: int

    def __str__(self) -> str:
        """As progress and errors name it."""
        return f"{self.strategy}, {self.iommu}, {self.frame_bytes} B"


@dataclass(frozen=True, slots=True)
class CaseMatrix:
    """``[cases]``: every strategy under every IOMMU with every frame size.

    Exactly one of ``packets`` and ``seconds`` ends a case. Warm-up is not measured.
    """

    strategies: Annotated[tuple[RxMode, ...], ListOf(Choice(RX_MODES))]
    iommus: Annotated[tuple[Iommu, ...], ListOf(Choice(ALL_IOMMUS))]
    frame_bytes: Annotated[tuple[int, ...], _FRAMES]
    packets: Annotated[int | None, Integer(1, 1_000_000_000)] = None
    seconds: Annotated[float | None, _SECONDS] = None
    warmup_seconds: Annotated[float, _WARMUP] = 0.3

    def __iter__(self) -> Iterator[Case]:
        """All cases; those of one IOMMU follow each other, so one boot serves them."""
        for iommu in self.iommus:
            for frame_bytes in self.frame_bytes:
                for strategy in self.strategies:
                    yield Case(strategy, iommu, frame_bytes)

    def __len__(self) -> int:
        """How many cases."""
        return len(self.strategies) * len(self.iommus) * len(self.frame_bytes)


@dataclass(frozen=True, slots=True)
class CurvePlan:
    """``[curve]``: packets per second as the latency of each map and each unmap goes up.

    All latencies are measured ``rounds`` times in turn, together for ``seconds`` each.
    """

    iommu: Annotated[Iommu, Choice(ALL_IOMMUS[1:])]
    latencies_us: Annotated[tuple[float, ...], ListOf(Number(0, MAX_LATENCY_US, "us"))]
    seconds: Annotated[float, _SECONDS]
    strategies: Annotated[tuple[Strategy, ...], ListOf(Choice(STRATEGIES))] = STRATEGIES
    frame_bytes: Annotated[int, Integer(64, 9000)] = 64
    rounds: Annotated[int, Integer(1, 100)] = 3


@dataclass(frozen=True, slots=True)
class BenchPlan:
    """``[bench]``: our NIC against QEMU's own, same guest, same IOMMU, ``samples`` times each."""

    nics: Annotated[tuple[BenchNic, ...], ListOf(Choice(get_args(BenchNic)))]
    iommus: Annotated[tuple[Iommu, ...], ListOf(Choice(ALL_IOMMUS))]
    frame_bytes: Annotated[tuple[int, ...], _FRAMES]
    seconds: Annotated[float, _SECONDS]
    samples: Annotated[int, Integer(1, 100)] = 3
    warmup_seconds: Annotated[float, _WARMUP] = 0.3


@dataclass(frozen=True, slots=True)
class VmPlan:
    """``[vm]``: the guest."""

    memory_mib: Annotated[int, Integer(128, 65536)] = 512
    cpus: Annotated[int, Integer(1, 16)] = 1


@dataclass(frozen=True, slots=True)
class NicPlan:
    """``[nic]``: queue pairs, and entries of each ring."""

    queues: Annotated[int, Integer(1, 16)] = 4
    rx_ring: Annotated[int, Integer(64, 4096, power_of_two=True)] = 1024
    tx_ring: Annotated[int, Integer(64, 4096, power_of_two=True)] = 1024


@dataclass(frozen=True, slots=True)
class LatencyPlan:
    """``[latency]``: the preset that delays maps and unmaps in ``[cases]``; ``none``: no delay."""

    preset: Annotated[str, Text()] = "none"


@dataclass(frozen=True, slots=True)
class Scenario:
    """A whole scenario; ``name`` and ``source`` say where it came from."""

    title: Annotated[str, Text()]
    seed: Annotated[int, Integer(0, 2**63 - 1)] = 1
    cases: CaseMatrix | None = None
    curve: CurvePlan | None = None
    bench: BenchPlan | None = None
    vm: VmPlan = VmPlan()
    nic: NicPlan = NicPlan()
    latency: LatencyPlan = LatencyPlan()
    name: str = field(default="", kw_only=True, metadata={"derived": True})
    source: str = field(default="", kw_only=True, metadata={"derived": True})

    @property
    def iommus(self) -> tuple[Iommu, ...]:
        """All that cases and curve need."""
        of_curve = (self.curve.iommu,) if self.curve else ()
        return (*(self.cases.iommus if self.cases else ()), *of_curve)


def frame_length_bytes(frame_bytes: int) -> int:
    """The Ethernet frame without FCS, in bytes, that a scenario's ``frame_bytes`` stands for.

    64 is Ethernet's smallest frame with its FCS: 60 bytes. Anything longer is payload (1500 is the
    usual MTU) and gains the 14-byte header.
    """
    return 60 if frame_bytes <= 64 else frame_bytes + 14


def load_scenario(where: str | Path, presets: Collection[str] | None = None) -> Scenario:
    """Reads a scenario: the path of a file, or the name of one that comes with the project.

    ``presets`` are the latency presets that exist besides ``none``; by default those of
    ``emulator/iommu/presets``.

    Raises:
        ScenarioMissingError: no such file, or it cannot be read.
        ScenarioError: it is not TOML, or says what cannot be run.
    """
    path = find_scenario(str(where), SCENARIO_DIR)
    return parse_scenario(read_document(path), str(path), path.stem, presets)


def read_document(path: Path) -> bytes:
    """The bytes of a scenario file, no more than is sensible. Raises: ScenarioMissingError."""
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ScenarioMissingError(f"scenario {path}: {error.strerror}") from error


def parse_scenario(
    raw: bytes, source: str, name: str = "", presets: Collection[str] | None = None
) -> Scenario:
    """Makes a scenario of the bytes of a file; ``source`` names it in errors.

    Raises:
        ScenarioError: as :func:`load_scenario`.
    """
    scenario = parse_document(Scenario, raw, source, lambda doc: _cross_faults(doc, presets))
    return replace(scenario, name=name, source=source)


def parse_document(
    cls: type[T], raw: bytes, source: str, cross: Callable[[dict[str, Any]], Iterator[Fault]]
) -> T:
    """The dataclass ``cls`` of a TOML file's bytes; ``cross`` finds what no single value shows.

    Raises:
        ScenarioError: it is not TOML, or has faults; all of them are named, with their lines.
    """
    text = _decode(raw, source)
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        problem = Problem(error_line(error, text), f"not TOML: {error}")
        raise ScenarioError(source, [problem]) from None
    faults = list(table_faults(cls, document))
    faults = faults or list(cross(document))
    if faults:
        lines = key_lines(text)
        raise ScenarioError(source, [Problem(_line(lines, f.path), f.text) for f in faults])
    return build_table(cls, document)


def bundled_scenarios() -> tuple[str, ...]:
    """The names of the scenarios that come with the project."""
    return tuple(sorted(path.stem for path in SCENARIO_DIR.glob("*.toml")))


def known_presets() -> tuple[str, ...]:
    """The latency presets that come with the project, without ``none``."""
    return tuple(sorted(path.stem for path in PRESET_DIR.glob("*.toml")))


def find_scenario(where: str, folder: Path) -> Path:
    """The file that ``where`` names: itself, or one of ``folder``. Raises: ScenarioMissingError."""
    path = Path(where)
    if path.suffix == ".toml" or path.is_file():
        return path
    known = sorted(file.stem for file in folder.glob("*.toml"))
    if where in known:
        return folder / f"{where}.toml"
    hint = did_you_mean(where, known)
    raise ScenarioMissingError(
        f'no scenario "{where}"; give the path of a .toml file, or one of: {", ".join(known)}{hint}'
    )


def _decode(raw: bytes, source: str) -> str:
    if len(raw) > MAX_BYTES:
        what = f"longer than {MAX_BYTES} bytes; a scenario is a page of text"
        raise ScenarioError(source, [Problem(1, what)])
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        what = f"byte {raw[error.start]:#04x} is not UTF-8; save the file as UTF-8"
        raise ScenarioError(source, [Problem(line, what)]) from None
    return text.replace("\r\n", "\n")


def _line(lines: dict[KeyPath, int], path: KeyPath) -> int:
    """The line of ``path``, or of the nearest thing above it."""
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path, 1)


def _cross_faults(document: dict[str, Any], presets: Collection[str] | None) -> Iterator[Fault]:
    """What no single value shows: keys that exclude each other, or need each other."""
    if not {"cases", "curve", "bench"} & document.keys():
        yield Fault((), "nothing to run; write at least one of: [cases], [curve], [bench]")
    cases = document.get("cases", {})
    ends = [key for key in ("packets", "seconds") if key in cases]
    if cases and len(ends) != 1:
        what = "both packets and seconds" if ends else "neither packets nor seconds"
        path: KeyPath = ("cases", ends[-1]) if ends else ("cases",)
        yield Fault(path, f"[cases] has {what}; exactly one of them ends a case")
    latencies = document.get("curve", {}).get("latencies_us", [0])
    if 0 not in latencies:
        text = f"curve.latencies_us = {show(latencies)} lacks 0, which every ratio is taken to"
        yield Fault(("curve", "latencies_us"), text)
    known = tuple(dict.fromkeys(("none", *(known_presets() if presets is None else presets))))
    if (preset := document.get("latency", {}).get("preset", "none")) not in known:
        yield from Choice(known).faults(preset, ("latency", "preset"))
