# SPDX-License-Identifier: MIT
"""The device loop: what wakes it, what it must not sleep through, and that control is heard."""

from __future__ import annotations

import itertools
import select
import signal
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from emulator import loop as module
from emulator.loop import SPIN_NS, DeviceLoop

pytestmark = pytest.mark.timeout(20)

LOOK_NS = 10_000  # what one look at the virtual clock takes


class Seat:
    """A seat that does what a test tells it to, and remembers when it was serviced."""

    def __init__(self, work: Callable[[int], bool] = lambda now_ns: False) -> None:
        self.work = work
        self.due_ns: int | None = None
        self.readers: list[int] = []
        self.serviced: list[int] = []

    def service(self, now_ns: int) -> bool:
        self.serviced.append(now_ns)
        return self.work(now_ns)

    def next_due_ns(self) -> int | None:
        return self.due_ns

    def filenos(self) -> tuple[list[int], list[int]]:
        return self.readers, []


class VirtualTime:
    """Replaces the loop's clock and its sleep: a look takes 10 us, a sleep what was asked for."""

    def __init__(self) -> None:
        self.now_ns = 0
        self.sleeps: list[tuple[int, float | None]] = []
        self.on_sleep: Callable[[], None] = lambda: None

    def monotonic_ns(self) -> int:
        self.now_ns += LOOK_NS
        return self.now_ns

    def select(
        self, readers: object, writers: object, other: object, timeout: float | None
    ) -> None:
        self.sleeps.append((self.now_ns, timeout))
        self.now_ns += round((timeout or 0) * 1e9)
        self.on_sleep()


@pytest.fixture
def virtual(monkeypatch: pytest.MonkeyPatch) -> VirtualTime:
    made = VirtualTime()
    monkeypatch.setattr(module, "time", made)
    monkeypatch.setattr(module, "select", made)
    return made


@pytest.fixture
def asleep(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set when a loop on the real clock is about to wait in the kernel."""
    event = threading.Event()

    class Select:
        @staticmethod
        def select(*arguments: object) -> object:
            event.set()
            return select.select(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "select", Select)
    return event


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def when(event: threading.Event, act: Callable[[], object]) -> threading.Thread:
    """Acts in a thread once the event is set."""
    thread = threading.Thread(target=lambda: event.wait(10) and act())
    thread.start()
    return thread


def test_stop_in_a_signal_handler_wakes_a_sleeping_loop(asleep: threading.Event) -> None:
    loop = DeviceLoop([Seat()], spin_ns=0)
    before = signal.signal(signal.SIGUSR1, lambda *_: loop.stop())
    main = threading.main_thread().ident
    assert main is not None
    helper = when(asleep, lambda: signal.pthread_kill(main, signal.SIGUSR1))
    try:
        loop.run()
    finally:
        helper.join()
        signal.signal(signal.SIGUSR1, before)
    assert asleep.is_set()


def test_loop_stopped_before_it_runs_serves_nobody() -> None:
    seat = Seat()
    loop = DeviceLoop([seat])
    loop.stop()
    loop.run()
    assert seat.serviced == []


def test_control_is_called_when_its_file_wakes_an_idle_loop(
    asleep: threading.Event, pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair
    loop = DeviceLoop([Seat()], spin_ns=0)

    def take() -> None:
        if select.select([ours], [], [], 0)[0]:
            loop.stop()

    loop.control(take, ours.fileno())
    helper = when(asleep, lambda: theirs.send(b"x"))
    loop.run()
    helper.join()


def test_control_is_not_starved_by_constant_traffic(virtual: VirtualTime) -> None:
    def busy(now_ns: int) -> bool:
        assert now_ns < 100_000_000, "control was not called in 100 ms of traffic"
        return True

    calls: list[int] = []
    loop = DeviceLoop([Seat(busy)])

    def take() -> None:
        calls.append(virtual.now_ns)
        if len(calls) == 5:
            loop.stop()

    loop.control(take, 0)
    loop.run()
    assert virtual.sleeps == []
    gaps = [later - earlier for earlier, later in itertools.pairwise(calls)]
    assert max(gaps) <= 2_000_000, "control waits for milliseconds"
    assert min(gaps) >= 500_000, "control costs every round a system call"


def test_file_of_a_seat_wakes_a_sleeping_loop(
    asleep: threading.Event, pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair
    got: list[bytes] = []

    def receive(now_ns: int) -> bool:
        if not select.select([ours], [], [], 0)[0]:
            return False
        got.append(ours.recv(10))
        loop.stop()
        return True

    seat = Seat(receive)
    seat.readers = [ours.fileno()]
    loop = DeviceLoop([seat], spin_ns=0)
    helper = when(asleep, lambda: theirs.send(b"frame"))
    loop.run()
    helper.join()
    assert got == [b"frame"]


def test_file_that_becomes_writable_wakes_a_sleeping_loop(
    asleep: threading.Event, pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair
    ours.setblocking(False)
    with pytest.raises(BlockingIOError):
        while True:
            ours.send(bytes(4096))

    class Waiting(Seat):
        def filenos(self) -> tuple[list[int], list[int]]:
            return [], [ours.fileno()]

    def stop_if_writable(now_ns: int) -> bool:
        if select.select([], [ours], [], 0)[1]:
            loop.stop()
        return False

    def drain() -> None:
        theirs.setblocking(False)
        try:
            while theirs.recv(1 << 20):
                pass
        except BlockingIOError:
            return

    loop = DeviceLoop([Waiting(stop_if_writable)], spin_ns=0)
    helper = when(asleep, drain)
    loop.run()
    helper.join()


@pytest.mark.parametrize("wait_ns", [30_000, 80_000])
def test_timer_due_soon_is_not_slept_through(virtual: VirtualTime, wait_ns: int) -> None:
    seat = Seat()
    seat.due_ns = due = wait_ns
    loop = DeviceLoop([seat], spin_ns=0)

    def stop_when_due(now_ns: int) -> bool:
        if now_ns >= due:
            loop.stop()
        return False

    seat.work = stop_when_due
    loop.run()
    assert virtual.sleeps == []
    assert seat.serviced[-1] - due < 10 * LOOK_NS


def test_sleep_before_a_timer_ends_before_it(virtual: VirtualTime) -> None:
    due = 5_000_000
    seat = Seat()
    seat.due_ns = due
    loop = DeviceLoop([seat], spin_ns=0)

    def stop_when_due(now_ns: int) -> bool:
        if now_ns >= due:
            loop.stop()
        return False

    seat.work = stop_when_due
    loop.run()
    (began, timeout), *more = virtual.sleeps
    assert timeout is not None and more == []
    assert due - 200_000 <= began + round(timeout * 1e9) < due
    assert seat.serviced[-1] - due < 10 * LOOK_NS


def test_earliest_timer_of_all_seats_counts(virtual: VirtualTime) -> None:
    late, soon, never = Seat(), Seat(), Seat()
    late.due_ns, soon.due_ns = 900_000_000, 3_000_000
    loop = DeviceLoop([late, soon, never], spin_ns=0)
    virtual.on_sleep = loop.stop
    loop.run()
    ((began, timeout),) = virtual.sleeps
    assert timeout is not None and began + timeout * 1e9 < 3_000_000


def test_loop_without_timers_sleeps_until_a_file_is_ready(virtual: VirtualTime) -> None:
    loop = DeviceLoop([Seat()], spin_ns=0)
    virtual.on_sleep = loop.stop
    loop.run()
    assert [timeout for _, timeout in virtual.sleeps] == [None]


def test_loop_polls_for_a_while_after_work_before_it_sleeps(virtual: VirtualTime) -> None:
    worked_at: list[int] = []

    def work_once(now_ns: int) -> bool:
        worked_at.append(now_ns)
        return len(worked_at) == 3

    loop = DeviceLoop([Seat(work_once)])
    virtual.on_sleep = loop.stop
    loop.run()
    slept_at, _ = virtual.sleeps[0]
    assert SPIN_NS <= slept_at - worked_at[2] < 2 * SPIN_NS


def test_control_is_called_at_once_when_the_loop_wakes(virtual: VirtualTime) -> None:
    loop = DeviceLoop([Seat()], spin_ns=0)
    woken: list[int] = []
    called: list[int] = []
    virtual.on_sleep = lambda: woken.append(virtual.now_ns)

    def take() -> None:
        if woken:
            called.append(virtual.now_ns)
            loop.stop()

    loop.control(take, 0)
    loop.run()
    assert called[0] - woken[0] < 5 * LOOK_NS


def test_every_seat_is_serviced_though_the_first_is_always_busy(virtual: VirtualTime) -> None:
    busy, other = Seat(lambda now_ns: True), Seat()
    loop = DeviceLoop([busy, other])
    loop.control(lambda: loop.stop() if len(other.serviced) > 100 else None, 0)
    loop.run()
    assert len(other.serviced) == len(busy.serviced)
