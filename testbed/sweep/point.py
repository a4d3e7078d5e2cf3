# SPDX-License-Identifier: MIT
"""One point of a sweep: a scenario, and what became of it. What workers run is :func:`solve`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from testbed.sweep.errors import ModelMismatchError
from testbed.twin.scenario import TwinScenario, scenario_of

if TYPE_CHECKING:
    from testbed.twin.result import TwinResult

_ROOT = Path(__file__).resolve().parent.parent.parent
_MODEL = (
    "emulator/kernel.py",
    "emulator/iommu/model",
    "emulator/ledger/columns",
    "pool",
    "driver/host",
    "testbed/twin",
)
"""What a result can depend on besides its scenario."""


@dataclass(frozen=True, slots=True)
class Point:
    """A scenario with its outcome: exactly one of the three is not None.

    not_applicable: why the strategy cannot work on that IOMMU, which is a result too.
    failure: ``ErrorName: text`` of a worker that failed; such a point is not finished.
    """

    scenario: TwinScenario
    result: TwinResult | None = None
    not_applicable: str | None = None
    failure: str | None = None

    @property
    def status(self) -> str:
        """``done``, ``not applicable`` or ``failed``."""
        if self.result is not None:
            return "done"
        return "not applicable" if self.not_applicable is not None else "failed"

    def to_json(self) -> dict[str, Any]:
        """Plain values; :meth:`from_json` undoes it."""
        return {
            "name": self.scenario.name,
            "scenario": self.scenario.to_json(),
            "result": self.result.to_json() if self.result else None,
            "not_applicable": self.not_applicable,
            "failure": self.failure,
        }

    @classmethod
    def from_json(cls, tree: Mapping[str, Any]) -> Point:
        """A point written by :meth:`to_json`.

        Raises:
            ValueError: a key is missing, unknown, or of the wrong kind.
        """
        if set(tree) != {"name", "scenario", "result", "not_applicable", "failure"}:
            raise ValueError(f"not a point: its keys are {', '.join(sorted(tree))}")
        scenario = named(scenario_of(tree["scenario"]), str(tree["name"]))
        return point_of(scenario, tree)


def named(scenario: TwinScenario, name: str) -> TwinScenario:
    """The same scenario under another name."""
    from dataclasses import replace

    return replace(scenario, name=name)


def point_of(scenario: TwinScenario, outcome: Mapping[str, Any]) -> Point:
    """``scenario`` with what :func:`solve` said of it.

    Raises:
        ValueError: that is neither a result nor a reason.
    """
    from testbed.twin.result import TwinResult

    tree = outcome.get("result")
    reasons = [outcome.get("not_applicable"), outcome.get("failure")]
    if sum(each is not None for each in (tree, *reasons)) != 1:
        raise ValueError("a point needs exactly one of: result, not_applicable, failure")
    if tree is None:
        return Point(scenario, None, *reasons)
    return Point(scenario, TwinResult.from_json(tree))


@cache
def model_digest() -> str:
    """Of the sources and presets that results depend on: 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for place in _MODEL:
        path = _ROOT / place
        files = [path] if path.is_file() else sorted(path.rglob("*.*"))
        for file in files:
            if file.suffix in (".py", ".toml") and file.parent.name != "scenarios":
                digest.update(file.relative_to(_ROOT).as_posix().encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def key_of(scenario: TwinScenario) -> str:
    """What makes two points the same: all of the scenario but its text, the packets, the model."""
    tree = scenario.to_json()
    del tree["about"]
    digest = hashlib.sha256(json.dumps(tree, sort_keys=True).encode() + model_digest().encode())
    if scenario.traffic.kind == "pcap":
        try:
            digest.update(Path(scenario.traffic.pcap).read_bytes())
        except OSError:
            digest.update(b"unreadable")  # the run itself will say so
    return digest.hexdigest()[:32]


def solve(tree: dict[str, Any], model: str) -> dict[str, Any]:
    """Runs the scenario of ``tree``; a plain outcome for :func:`point_of`, the same on any worker.

    Raises:
        ModelMismatchError: this worker's model is not ``model``.
        TrafficError: the packets cannot be had.
    """
    from testbed.twin.run import run_twin
    from testbed.twin.world import NotApplicableError

    if model != model_digest():
        raise ModelMismatchError(
            f"model {model_digest()} here, {model} where the sweep was started: install the same "
            "version of dmabed on every worker"
        )
    try:
        result = run_twin(scenario_of(tree))
    except NotApplicableError as error:
        return {"not_applicable": str(error)}
    return {"result": result.to_json()}
