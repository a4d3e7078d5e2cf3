# SPDX-License-Identifier: MIT
"""The matrix of faults: what is played behind which IOMMU, and where its outcome stands."""

import argparse
from pathlib import Path

import pytest

from emulator.faults.fault import Outcome
from emulator.faults.registry import FAULTS
from testbed.faults.command import add_fault_actions, played_behind, wanted_iommus
from testbed.faults.process import (
    MSG_TIMEOUTS_MS,
    PATIENT_MS,
    PLAYS,
    STOPPED_S,
)
from testbed.faults.results import FaultResult, matrix
from vm.machine import ALL_IOMMUS


def iommus(*words):
    parser = argparse.ArgumentParser()
    add_fault_actions(parser.add_subparsers(), Path("out"))
    return wanted_iommus(parser.parse_args(["faults", *words]).iommu)


def cell(outcome, rung="vm", iommu="", expected=(Outcome.SURVIVED,)):
    return FaultResult("X-1", "stale-access", rung, outcome, frozenset(expected), iommu=iommu)


def test_every_iommu_has_a_column_of_its_own():
    text = matrix(
        [
            cell(Outcome.SURVIVED, "in-process"),
            cell(Outcome.SURVIVED, iommu="virtio-lazy"),
            cell(Outcome.STUCK, iommu="amd-strict"),
        ]
    )
    head, line, sum_, bad, _ = text.splitlines()
    assert head.split() == ["X", "fault", "in-process", "virtio-lazy", "amd-strict"]
    assert line.split() == ["X-1", "stale-access", "survived", "survived", "!", "stuck"]
    assert sum_ == "2 of 3 as expected"
    assert bad == "! amd-strict stale-access: stuck, expected survived"


def test_several_iommus_are_played_once_each_and_all_means_all():
    assert iommus() == ["intel-strict"]
    assert iommus("--iommu", "amd-lazy", "none", "--iommu", "none") == ["none", "amd-lazy"]
    assert iommus("--iommu", "all") == list(ALL_IOMMUS)


def test_an_unknown_iommu_is_refused(capsys):
    with pytest.raises(SystemExit):
        iommus("--iommu", "power-tce")
    assert "amd-strict" in capsys.readouterr().err


@pytest.mark.parametrize("iommu", ALL_IOMMUS)
def test_only_without_an_iommu_faults_are_left_out(iommu, capsys):
    played = played_behind(iommu)
    assert set(PLAYS) <= set(played) <= set(FAULTS) | set(PLAYS)
    assert ("wild-address" in played) == ("slow-unmap" in played) == (iommu != "none")
    assert ("left out" in capsys.readouterr().out) == (iommu == "none")


def test_qemu_outwaits_a_device_that_is_stopped_but_not_one_that_is_to_be_late():
    assert PATIENT_MS > 2 * STOPPED_S * 1e3
    assert set(MSG_TIMEOUTS_MS) == {"device-late"}
    assert MSG_TIMEOUTS_MS["device-late"] < STOPPED_S * 1e3
