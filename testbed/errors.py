# SPDX-License-Identifier: MIT
"""What can go wrong between a scenario and its report, one named error each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from emulator.errors import DmabedError


class TestbedError(DmabedError):
    """Base of the errors of this package."""

    __test__ = False  # pytest collects classes whose name starts with Test


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing wrong in a scenario file: the line (from 1), and what, with the allowed values."""

    line: int
    text: str


class ScenarioError(TestbedError):
    """A scenario was refused; ``problems`` holds everything wrong with it, in order of lines."""

    def __init__(self, source: str, problems: Sequence[Problem]) -> None:
        self.source = source
        self.problems = tuple(sorted(problems))
        super().__init__("\n".join(f"{source}:{p.line}: {p.text}" for p in self.problems))


class ScenarioMissingError(TestbedError):
    """Neither a file nor the name of a scenario that comes with the project."""


class ResultsError(TestbedError):
    """A results file, or a result about to be written, is not what its schema says."""

    def __init__(self, where: str, what: str) -> None:
        super().__init__(f"{where}: {what}" if where else what)
        self.where, self.what = where, what


class ReportError(TestbedError):
    """A report could not be written; the text names the file."""

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(f"{path}: {what}")
        self.path = path


class LaboratoryError(TestbedError):
    """The device process is gone, does not answer, or was asked for what it cannot do."""


class RigError(TestbedError):
    """The guest and its NIC did not do what a measurement needs."""
