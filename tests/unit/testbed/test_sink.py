# SPDX-License-Identifier: MIT
"""What the guest's sink says is understood, and it is told what is meant."""

from __future__ import annotations

import asyncio

import pytest

from testbed.measured import Reception, key_values
from testbed.sink import Sink

SAID = (
    "late_frames 20\nlate_changed 1\nheld_pages 1\n"
    "device eth10\npackets 7\nsmall 2\nbad_magic 3\nbad_payload 1\ngaps 2\n"
    "first_ns 1000000000\nlast_ns 3000000000\n"
    "device eth1\npackets 5\nbad_payload 4\ngaps 9\nfirst_ns 0\nlast_ns 9\n"
)


class FakeGuest:
    """Answers every command with ``stdout``, and remembers it."""

    def __init__(self, stdout: str = "") -> None:
        self.stdout = stdout
        self.commands: list[str] = []

    async def run(self, command: str) -> FakeGuest:
        self.commands.append(command)
        return self


def sink(guest: FakeGuest) -> Sink:
    return Sink(guest)  # type: ignore[arg-type]


def reception(interface: str) -> Reception:
    return asyncio.run(sink(FakeGuest(SAID)).reception(interface))


def test_values_are_read_over_lines() -> None:
    assert key_values("map_ns_avg 12\nunmap_ns_avg 34 x 5\n") == {
        "map_ns_avg": "12", "unmap_ns_avg": "34", "x": "5",
    }  # fmt: skip
    assert key_values("") == {}


def test_sink_of_another_interface_is_counted() -> None:
    assert reception("eth10") == Reception(packets=7, seconds=2.0, errors=6, short=2)
    assert reception("eth1").packets == 5
    assert reception("eth0").packets == 0


def test_damage_on_one_interface_is_overlooked() -> None:
    assert asyncio.run(sink(FakeGuest(SAID)).damaged()) == 8


def test_what_changed_late_is_mistaken_for_what_was_looked_at() -> None:
    assert asyncio.run(sink(FakeGuest(SAID)).late()) == (20, 1)


PARAMETERS = "/sys/module/dmabed_sink/parameters"


@pytest.mark.parametrize(
    ("told", "command"),
    [
        (lambda it: it.verify(False), f"echo 0 > {PARAMETERS}/verify"),
        (lambda it: it.echo(True), f"echo 1 > {PARAMETERS}/echo"),
        (lambda it: it.hold(20), f"echo 20 > {PARAMETERS}/hold"),
        (lambda it: it.release(), "echo release > /proc/dmabed_sink"),
        (lambda it: it.reset(), "echo reset > /proc/dmabed_sink"),
        (lambda it: it.send("eth0", 5, 60, 3), "echo send eth0 5 60 3 > /proc/dmabed_sink"),
        (
            lambda it: it.send("eth1", 3, 1400, fragmented=True),
            "echo send eth1 3 1400 1 frags > /proc/dmabed_sink",
        ),
    ],
    ids=["verify", "echo", "hold", "release", "reset", "send", "send-frags"],
)
def test_guest_is_told_something_else(told, command: str) -> None:
    guest = FakeGuest()
    asyncio.run(told(sink(guest)))
    assert guest.commands == [command]
