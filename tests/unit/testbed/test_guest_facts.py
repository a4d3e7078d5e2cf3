# SPDX-License-Identifier: MIT
"""What the guest finds out reaches the ledger: durations, frames that changed, pages of pools."""

from __future__ import annotations

import asyncio
import os
from types import SimpleNamespace
from typing import Any

import pytest

from emulator.ledger.facts import PayloadChecked, Took
from testbed import guest_facts
from testbed.guest_facts import Retained, timed
from testbed.rig import Rig
from testbed.sink import Sink
from vm.errors import CommandFailed, CommandTimeout


class FakeRig:
    """A guest that says what it is made to say, and a device process that writes down facts."""

    def __init__(self, *said: str | Exception) -> None:
        self.nics, self.interface = ("nic", "other"), "eth0"
        self.said, self.asked, self.facts = list(said), [], []
        pid = os.getpid()
        self.guest = SimpleNamespace(run=self.run, pid=pid)
        self.sink = Sink(self.guest)  # type: ignore[arg-type]
        self.devices = SimpleNamespace(call=self.call, pid=pid, alive=True)

    tell = Rig.tell

    async def run(self, command: str, **_: Any) -> SimpleNamespace:
        self.asked.append(command)
        answer = self.said.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return SimpleNamespace(stdout=answer)

    def call(self, method: str, name: str, fact: object) -> None:
        assert (method, name) == ("tell", "nic")
        self.facts.append(fact)


@pytest.fixture
def idle_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guest_facts, "HostWait", lambda _: SimpleNamespace(ns=0))


@pytest.mark.usefixtures("idle_host")
def test_duration_is_not_the_guests_own_or_is_kept_from_the_ledger() -> None:
    rig = FakeRig("now at 1000\nnow at 7\nsomething said\nnow at 5001000\n")
    assert asyncio.run(timed(rig, "ifdown", "ip link set eth0 down")) == 5_000_000  # type: ignore[arg-type]
    assert rig.facts == [Took("ifdown", 5_000_000)]
    assert "ip link set eth0 down; s=$?" in rig.asked[0] and rig.asked[0].endswith("exit $s")


def test_time_that_the_host_took_is_the_drivers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guest_facts, "HostWait", lambda _: SimpleNamespace(ns=4_000_000))
    rig = FakeRig("now at 0\nnow at 5000000\n")
    assert asyncio.run(timed(rig, "ifdown", "x")) == 1_000_000  # type: ignore[arg-type]


@pytest.mark.usefixtures("idle_host")
def test_operation_that_never_ends_is_not_told() -> None:
    rig = FakeRig(CommandTimeout("x"))
    with pytest.raises(CommandTimeout):
        asyncio.run(timed(rig, "remove", "rmmod dmabed_nic", timeout_s=12))  # type: ignore[arg-type]
    assert rig.facts == [Took("remove", 12_000_000_000)]
    refused = FakeRig(CommandFailed("in use"))
    with pytest.raises(CommandFailed):
        asyncio.run(timed(refused, "remove", "rmmod dmabed_nic"))  # type: ignore[arg-type]
    assert refused.facts == []


@pytest.mark.usefixtures("idle_host")
def test_driver_cannot_be_timed_once_its_device_has_died() -> None:
    rig = FakeRig("now at 0\nnow at 5000000\n")
    rig.devices.alive = False
    assert asyncio.run(timed(rig, "remove", "rmmod dmabed_nic")) == 5_000_000  # type: ignore[arg-type]
    assert rig.facts == []


def test_frames_kept_before_are_counted_again_or_a_change_is_not_told() -> None:
    before = "sent_packets 3\nlate_frames 100\nlate_changed 2\ndevice eth0\npackets 5\n"
    after = "sent_packets 3\nlate_frames 140\nlate_changed 3\ndevice eth0\npackets 9\n"
    rig = FakeRig("", before, "", "", after)

    async def scene() -> PayloadChecked:
        retained = Retained(rig, 40)  # type: ignore[arg-type]
        await retained.begin()
        return await retained.end()

    fact = asyncio.run(scene())
    assert (fact.frames, fact.changed) == (40, 1) and rig.facts == [fact]
    assert "echo 40 >" in rig.asked[0] and "echo 0 >" in rig.asked[2]
    assert rig.asked[3] == "echo release > /proc/dmabed_sink"
