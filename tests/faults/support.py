# SPDX-License-Identifier: MIT
"""What the fault scripts share: each is a test, and prints its part of the matrix when it is run.

.venv/bin/python -m tests.faults.test_x40_interrupts
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import pytest

from emulator.faults.registry import FAULTS
from testbed.faults.inprocess import play_fault
from testbed.faults.results import FaultResult, matrix

MODES = ("page_pool", "map_per_packet")


def family(*numbers: int) -> list[str]:
    """Names of the faults whose number is one of ``numbers``."""
    return [name for name, kind in FAULTS.items() if int(kind.number[2:]) in numbers]


def assert_expected(result: FaultResult) -> None:
    """The fault struck, and its outcome is one of those expected."""
    assert result.acts > 0
    assert result.ok, matrix([result])


def each(names: Sequence[str]) -> Callable[..., object]:
    """Parametrizes a test by the faults ``names``."""
    return pytest.mark.parametrize("name", names)


def script(doc: str | None, names: Sequence[str]) -> None:
    """Prints what the script is about and its matrix; ends with status 1 if anything is wrong."""
    print(doc)
    results = [play_fault(name, mode) for name in names for mode in MODES]
    print(matrix(results))
    sys.exit(0 if all(result.ok for result in results) else 1)
