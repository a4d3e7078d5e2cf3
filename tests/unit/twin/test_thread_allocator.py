# SPDX-License-Identifier: MIT
"""Thread rows T4, T5, T9, T10, T22: the page allocator, as the twin sees it."""

from itertools import pairwise

import pytest

from testbed.twin.thread.allocator import BATCHES
from testbed.twin.thread.page import row


def test_t4_fallback_that_costs_nothing_under_pressure():
    """T4: order 3 costs its 500 while there are blocks; 2500 more for each once there are none."""
    facts = row(4).facts
    assert facts["calm_block"] == pytest.approx(500)
    assert facts["attempts"] == pytest.approx(3)
    assert facts["split_block"] == pytest.approx(2500 + 277)
    assert facts["maps"] == pytest.approx(0.5)
    assert facts["walled"] > 5 * facts["easy"]


def test_t5_attack_that_order_0_suffers_or_order_3_does_not():
    """T5: 32 KiB over 1.5 KiB is 21.3 bytes kept for each claimed; a page per packet keeps one."""
    facts = row(5).facts
    assert 15 < facts["order3"] <= 32768 / 1536
    assert facts["page"] == pytest.approx(1.0, abs=0.1)
    assert facts["flip"] < 2
    assert facts["calls"] == 0


def test_t5_queue_of_pages_whose_oldest_does_not_block():
    """T5, against the claim: recycling in order, one page that is held stops it all."""
    facts = row(5).facts
    assert facts["blocked_calls"] > 0.9
    assert facts["blocked"] > 2 * facts["page"]


def test_t9_table_of_allocation_costs():
    """T9: 277, 228, 500, 417, and shared out 62.5 and 31.25."""
    facts = row(9).facts
    assert [facts[key] for key in ("order0", "order0_series", "order3", "order3_series")] == [
        pytest.approx(cycles) for cycles in (277, 228, 500, 417)
    ]
    assert facts["page"] == pytest.approx(62.5)
    assert facts["buffer"] == pytest.approx(31.25, abs=0.1)


@pytest.mark.parametrize("preset", ["linux-2016", "linux-2021"])
def test_t10_page_that_gets_dearer_in_a_larger_bulk(preset):
    """T10: cycles a page fall with the batch, by half or nearly, and most of it by 8."""
    curve = [row(10).facts[f"{preset}_{n}"] for n in BATCHES]
    assert all(after <= before + 1e-6 for before, after in pairwise(curve))
    assert curve[-1] < 0.56 * curve[0]
    assert curve[0] - curve[3] > 0.8 * (curve[0] - curve[-1])


def test_t22_checks_that_a_pool_pays_for_or_that_cost_nothing():
    """T22: whoever allocates pays them per page, whoever recycles does not."""
    facts = row(22).facts
    assert facts["price"] > 0
    assert facts["naive"] == pytest.approx(facts["price"])
    assert 0 < facts["order"] < facts["naive"]
    assert facts["pool"] == 0
