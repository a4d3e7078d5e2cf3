# SPDX-License-Identifier: MIT
"""Any plan: several faults at once, with any trigger, for any seed.

Shows that no combination makes the driver fail, the ledger blame it, or a call take for ever.
"""

import pytest
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st

from emulator.faults.fault import Outcome
from emulator.faults.plan import FaultPlan, FaultSpec
from emulator.faults.registry import FAULTS
from testbed.faults.inprocess import CALL_BOUND_NS, Play, play_plan

SPECS = st.builds(
    FaultSpec,
    st.sampled_from(sorted(FAULTS)),
    queue=st.sampled_from([None, 0, 1]),
    nth=st.sampled_from([None, 1, 3, 40]),
    after_us=st.sampled_from([0, 300, 400_000]),
    times=st.sampled_from([1, 3, 20]),
    lasting_us=st.sampled_from([0, 200, 700_000]),
    until_reset=st.sampled_from([0, 1]),
)
FINE = frozenset(Outcome) - {Outcome.BLAMED, Outcome.BROKEN, Outcome.STUCK}


@settings(
    max_examples=10,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # to shrink a play takes minutes
)
@given(specs=st.lists(SPECS, min_size=1, max_size=4), seed=st.integers(0, 1 << 32))
def test_no_plan_breaks_the_driver_or_gets_it_blamed(specs, seed):
    result = play_plan(FaultPlan(tuple(specs), seed), "page_pool", 1, "any", "plan", FINE)
    note(f"{result.outcome} {result.detail}")
    assert result.ok


def test_the_script_itself_is_clean_and_quick_without_a_fault():
    play = Play()

    class Nothing:
        def arm(self, now_ns):
            pass

        disarm = arm

    seen = play.run(Nothing())
    assert (seen.corrupt, seen.misplaced, seen.refusals) == (0, 0, [])
    assert seen.came_again == seen.sent_again
    assert seen.longest_call_ns < CALL_BOUND_NS // 10
    assert play.injector.report().counts == {}
    assert play.left_over() == []
    assert play.machine.ledger.verdict().ok
    assert (play.priv.resets, play.priv.suspicions) == (seen.asked_resets, [])


@pytest.mark.parametrize("planted", ["posted", "leaked"])
def test_a_driver_that_is_wrong_is_blamed_under_a_fault_too(planted, monkeypatch):
    """The other half of 'never blamed': an order to misbehave must not excuse the driver."""
    from driver.model import tx

    def forgets(qp, pieces, context):
        done = real(qp, pieces - 1, context) if pieces > 1 else real(qp, pieces, context)
        qp.tx.clean += pieces > 1
        return done

    def early(qp, skbs):
        skbs, iovas = mapped(qp, skbs)
        rx = qp.rx
        if qp.priv.host.now_ns > 15_000_000 and not hasattr(rx.pool, "planted"):
            rx.pool.planted = True
            qp.priv.host.dma.unmap_pages(rx.buffers.get(rx.posted - 1, 1).iovas & ~4095)
        return skbs, iovas

    real, mapped = tx.dmabed_tx_unmap, tx.dmabed_tx_map
    if planted == "leaked":
        monkeypatch.setattr(tx, "dmabed_tx_unmap", forgets)
    else:
        monkeypatch.setattr(tx, "dmabed_tx_map", early)
    plan = FaultPlan((FaultSpec("wild-address", times=2),))
    result = play_plan(plan, "page_pool", 1, "X-5", "wild-address", FINE)
    assert result.outcome in (Outcome.BLAMED, Outcome.BROKEN)
