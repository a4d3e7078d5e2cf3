# SPDX-License-Identifier: MIT
"""The driver on each strategy: its frames arrive, and nothing is left of it."""

import pytest

from driver.model.inprocess import Machine
from pool.registry import STRATEGIES
from tests.unit.driver_model.support import SMALL, Bed, assert_intact, generator


@pytest.mark.parametrize("mode", STRATEGIES)
def test_frames_arrive_intact_and_removal_leaves_no_page_and_no_mapping(mode):
    machine = Machine(contiguous=1 << 12)  # mempool needs huge pages
    bed = Bed(generator(600), mode, cfg=SMALL, machine=machine)
    bed.run()
    assert_intact(bed.checker, 600)
    bed.remove()
