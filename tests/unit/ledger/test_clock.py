# SPDX-License-Identifier: MIT
"""The guest's clock on the ledger's: the stated error must hold whatever the delays were."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from emulator.ledger.clock import ClockError, ClockMap
from emulator.ledger.clock import fit as fit_bounds


def fit(before, after, host) -> ClockMap:
    """Of maps: the ledger has one stamp for each."""
    return fit_bounds(before, after, host, host)


def guest_of(host, offset, drift):
    """The guest's clock at a time of the host's."""
    return round((host - offset) / (1 + drift))


@settings(max_examples=60, deadline=None)
@given(
    offset=st.integers(-(10**13), 10**13),
    drift=st.floats(-0.2, 0.2),
    delays=st.lists(
        st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)), min_size=2, max_size=50
    ),
    gap=st.integers(1000, 10**8),
)
@example(offset=0, drift=0.0, delays=[(0, 0), (0, 67)], gap=1000)  # bounds that just meet
def test_true_time_lies_outside_the_stated_error(offset, drift, delays, gap):
    hosts = [10**12 + i * gap for i in range(len(delays))]
    before = [
        guest_of(h - early, offset, drift) for h, (early, _) in zip(hosts, delays, strict=False)
    ]
    after = [guest_of(h + late, offset, drift) for h, (_, late) in zip(hosts, delays, strict=False)]
    clock = fit(np.array(before), np.array(after), np.array(hosts))
    assert clock.samples == len(hosts)
    for host in hosts:
        assert (
            abs(clock.to_host(guest_of(host, offset, drift)) - host) <= clock.error_ns + 4
        )  # of rounding


def test_error_shrinks_to_that_of_the_tightest_samples():
    hosts = np.arange(1000) * 100_000 + 10**12
    rng = np.random.default_rng(5)
    early, late = rng.integers(50, 80_000, (2, 1000))
    clock = fit(hosts - early - 7 * 10**9, hosts + late - 7 * 10**9, hosts)
    assert clock.error_ns < 4000 and abs(clock.to_host(10**12 - 7 * 10**9) - 10**12) < 4000


def test_stamps_that_contradict_each_other_widen_the_error():
    hosts = np.array([1000, 2000, 3000])
    clock = fit(hosts + 500, hosts + 600, hosts + np.array([0, 900, 0]))
    assert clock.error_ns >= 350


def test_stamp_of_a_process_that_had_to_wait_spoils_no_other():
    hosts = np.arange(200) * 100_000 + 10**12
    guest = hosts - 7 * 10**9
    late = hosts.copy()
    late[[20, 150]] -= 2_300_000_000
    clock = fit(guest - 4000, guest + 4000, late)
    assert (clock.left_out, clock.samples) == (2, 198) and clock.error_ns < 10_000
    assert abs(clock.to_host(int(guest[20])) - int(hosts[20])) < 10_000


def test_no_sample_and_stamps_out_of_order_are_refused():
    none = np.zeros(0, np.int64)
    with pytest.raises(ClockError):
        fit(none, none, none)
    with pytest.raises(ClockError):
        fit(np.array([5]), np.array([4]), np.array([9]))
