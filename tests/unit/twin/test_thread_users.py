# SPDX-License-Identifier: MIT
"""Thread rows T13, T16, T17, T18, T19, T20: device, storage, descriptor and budget."""

import pytest

from pool.registry import STRATEGIES
from testbed.twin.thread.page import row


@pytest.mark.parametrize("prefix", ["", "mpp_"], ids=["page_pool", "map_per_packet"])
def test_t13_frozen_device_that_does_not_come_back_or_leaks(prefix):
    """T13: traffic, none while frozen, traffic again; nothing damaged, nothing left."""
    facts = row(13).facts
    assert facts[prefix + "before"] > 500
    assert facts[prefix + "during"] == 0
    assert facts[prefix + "after"] > 500
    assert 0 < facts[prefix + "recovery_us"] < 5000
    assert facts[prefix + "corrupt"] == facts[prefix + "leaked"] == facts[prefix + "grown"] == 0
    assert facts[prefix + "clean"]


def test_t16_zero_copy_that_copies_or_takes_a_page_of_another_domain():
    """T16: no copy, no map; a batch of another domain is refused whole, its own is taken."""
    facts = row(16).facts
    assert (facts["copies"], facts["maps"]) == (0, 0)
    assert (facts["refused"], facts["taken_back"]) == (16, 16)
    assert facts["flows"] == facts["alone"] == 4
    assert facts["copied_copies"] == 1
    assert facts["zero"] < facts["copied"] < facts["copied_big"]
    assert facts["held"] > 0 == facts["copied_held"]


def test_t17_initiator_that_gains_by_a_pool():
    """T17: as a target the pool saves every map, as an initiator not one."""
    facts = row(17).facts
    assert facts["page_pool_storage"] == 0
    assert facts["page_pool_initiator"] == facts["map_per_packet_initiator"] == 1
    assert facts["initiator"] == 0
    assert facts["target"] > 0.9


def test_t18_command_that_is_mapped_page_by_page_with_a_cache():
    """T18: 16 maps a command without, none with; the list is that of the set, not of SCSI."""
    facts = row(18).facts
    assert facts["cold"] == pytest.approx(16)
    assert facts["warm"] == 0
    assert facts["table"] * 8 == facts["maximum"] == 128 * 32
    assert facts["kept"] < facts["pool_cycles"]


def test_t19_descriptor_without_a_column_or_headroom_that_moves_nothing():
    """T19: opaque, length, offset, headroom, domain, with page and DMA address."""
    found = row(19)
    assert {line[0] for line in found.lines} == {
        f"`{name}`"
        for name in ("pfns", "iovas", "lengths", "offsets", "headrooms", "opaques", "domains")
    }
    assert (found.facts["plain"], found.facts["moved"]) == (0, 256)
    assert found.facts["more"] == pytest.approx(0, abs=1e-6)


def test_t20_budget_that_is_not_201_cycles_or_lacks_a_strategy():
    """T20: 67.2 ns at 3 GHz; every strategy has its share."""
    facts = row(20).facts
    assert facts["ns"] == pytest.approx(67.2)
    assert facts["budget"] == pytest.approx(201.6)
    assert all(facts[f"{name}_strict"] > 0 for name in STRATEGIES)
    assert facts["page_pool_strict"] < 0.5 < 1 < facts["map_per_packet_off"]
    assert facts["map_per_packet_strict"] > 10
