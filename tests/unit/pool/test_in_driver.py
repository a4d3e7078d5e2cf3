# SPDX-License-Identifier: MIT
"""The driver on each strategy that needs no more of its host than the driver's own host has."""

import pytest

from tests.unit.driver_model.support import SMALL, Bed, assert_intact, generator

FIT = [
    "array_cache",
    "dma_pool",
    "half_page_flip",
    "mapping_cache",
    "order0_recycle",
    "pcp_constructor",
    "scatterlist_cache",
    "zero_copy_domain",
]


@pytest.mark.parametrize("mode", FIT)
def test_frames_arrive_intact_and_removal_leaves_no_page_and_no_mapping(mode):
    bed = Bed(generator(600), mode, cfg=SMALL)
    bed.run()
    assert_intact(bed.checker, 600)
    bed.remove()
