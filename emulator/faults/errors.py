# SPDX-License-Identifier: MIT
"""What can be wrong with a plan of faults."""

from __future__ import annotations

from collections.abc import Sequence

from emulator.errors import DmabedError


class FaultError(DmabedError):
    """Base of the errors of this package."""


class FaultPlanError(FaultError):
    """A plan was refused; ``problems``: (line from 1, what is wrong and what is allowed)."""

    def __init__(self, source: str, problems: Sequence[tuple[int, str]]) -> None:
        self.source, self.problems = source, tuple(sorted(problems))
        super().__init__("\n".join(f"{source}:{line}: {text}" for line, text in self.problems))


class UnknownFaultError(FaultError):
    """No fault has this name or number."""
