# SPDX-License-Identifier: MIT
"""Copies of many ranges: what lands where, and that nothing leaves its array."""

import numpy as np
import pytest

from emulator.iommu.copy import copy_ranges


def test_ranges_land_in_order_and_empty_ones_nowhere():
    source, target = np.arange(100, dtype=np.uint8), np.zeros(20, np.uint8)
    at, start, length = np.array([0, 4, 5, 18]), np.array([10, 50, 60, 98]), np.array([5, 0, 3, 2])
    copy_ranges(target, at, source, start, length)
    assert target.tolist() == [10, 11, 12, 13, 14, 60, 61, 62, *[0] * 10, 98, 99]


@pytest.mark.parametrize(
    ("at", "start", "length"),
    [(19, 0, 2), (-1, 0, 1), (0, 99, 2), (0, -1, 1), (0, 0, 1 << 62), (1 << 62, 0, 1)],
)
def test_range_outside_its_array_is_refused_and_copies_nothing(at, start, length):
    source, target = np.ones(100, np.uint8), np.zeros(20, np.uint8)
    with pytest.raises(IndexError, match="range 1"):
        copy_ranges(
            target,
            np.array([0, at]),
            source,
            np.array([0, start]),
            np.array([0, length]),
        )
    assert not target.any()
