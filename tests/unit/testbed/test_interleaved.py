# SPDX-License-Identifier: MIT
"""The comparison in turns: its arithmetic, its order, and its two clocks. No guest."""

from __future__ import annotations

import asyncio
import os
import time
from types import SimpleNamespace
from typing import Any

import pytest

from testbed.bench import interleaved
from testbed.bench.interleaved import Comparison, Spread, Window, cpu_ns
from testbed.errors import RigError


def windows(*rates: float) -> list[Window]:
    return [Window(rate, guest_ns=1e9 / rate, device_ns=500.0) for rate in rates]


def test_ratio_is_that_of_neighbours_and_not_of_medians() -> None:
    """The machine got four times slower half way: pairs do not care, medians would."""
    base = windows(100, 100, 100, 25, 25, 25)
    other = windows(90, 90, 90, 22.5, 22.5, 22.5)
    found = Comparison(64, base, other)
    assert found.ratio("packets_per_second") == Spread(*[pytest.approx(0.9)] * 3)
    assert found.ratio("guest_ns").median == pytest.approx(1 / 0.9)
    assert found.ratio("device_ns").median == 1


def test_report_says_what_is_compared_and_how_far_it_spreads() -> None:
    text = str(Comparison(1500, windows(100e3, 100e3, 100e3), windows(80e3, 90e3, 100e3)))
    assert "1500 B: intel-strict runs at 0.900 (quartiles 0.850 to 0.950) times the rate" in text
    assert "none 100.0, intel-strict 90.0" in text
    assert "3 pairs" in text


class FakeRig:
    """Takes ``rate`` packets a second of the device's clock, which runs 10 times too fast."""

    def __init__(self, name: str, log: list[str], rate: int = 10**9) -> None:
        self.guest = SimpleNamespace(pid=os.getpid())
        self.devices = SimpleNamespace(pid=os.getpid(), call=self.call)
        self._name, self._log, self._rate = name, log, rate
        self._begin = 0.0

    def call(self, method: str, nic: str, *arguments: Any) -> Any:
        if method == "send":
            self._log.append(self._name)
            assert arguments[0].count is None, "the flow must not end within the window"
        elif method == "window_begin":
            self._begin = time.monotonic()
        elif method == "sent":
            return int(time.monotonic() * self._rate), False
        elif method == "window_end":
            passed = time.monotonic() - self._begin
            packets = int(passed * self._rate)
            return {"rx_packets": packets, "begin_ns": 5, "end_ns": 5 + int(passed * 1e10)}
        return None


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interleaved, "_WARMUP_S", 0.001)
    monkeypatch.setattr(interleaved, "_WINDOW_S", 0.002)
    monkeypatch.setattr(interleaved, "_FLOW_S", 0.02)


def test_sides_take_turns_in_being_first_and_the_devices_clock_counts(short: None) -> None:
    log: list[str] = []
    rigs: list[Any] = [FakeRig("a", log), FakeRig("b", log)]
    taken = asyncio.run(interleaved._in_turns(rigs, 60, seed=1))
    assert log == ["a", "b", "b", "a"] * (interleaved.PAIRS // 2)
    for window in taken[0] + taken[1]:
        assert window.packets_per_second == pytest.approx(1e8, rel=1e-3)


def test_guest_that_takes_nothing_is_an_error_and_no_window(short: None) -> None:
    rigs: list[Any] = [FakeRig("a", [], rate=0), FakeRig("b", [], rate=0)]
    with pytest.raises(RigError, match="fewer than"):
        asyncio.run(interleaved._in_turns(rigs, 60, seed=1))


def test_cpu_time_is_that_of_all_threads_and_finer_than_a_tick() -> None:
    before, own = cpu_ns(os.getpid()), time.process_time_ns()
    total = sum(i * i for i in range(300_000))
    spent, own = cpu_ns(os.getpid()) - before, time.process_time_ns() - own
    assert total > 0
    assert spent % 10_000_000
    assert abs(spent - own) < max(own, 5_000_000)
