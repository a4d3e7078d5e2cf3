# SPDX-License-Identifier: MIT
"""The TLP ports of the RTL under cocotb: whole packets in and out, with back-pressure on demand.

One coroutine serves both directions, and calls what is due at a cycle.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

import cocotb
from cocotb.triggers import RisingEdge

from emulator.rtl.tlp import BEAT_BYTES, AtsTlp, from_device, to_device

Listener = Callable[[AtsTlp], None]
Handle = Any
"""A cocotb handle: what it has is found out from the simulator, at run time."""


class Link:
    """``dut``'s ``tx_*`` and ``rx_*`` streams.

    listeners: called with every TLP of the device, in order, when its last beat has gone.
    ready: asked before each cycle whether the device may send a beat. gap: asked after each TLP to
    the device for how many cycles to leave the port idle.
    """

    def __init__(self, dut: Handle) -> None:
        self._dut = dut
        self._clock = dut.clk
        self.listeners: list[Listener] = []
        self.sent_listeners: list[Callable[[AtsTlp], None]] = []
        self.ready: Callable[[], bool] = lambda: True
        self.gap: Callable[[], int] = lambda: 0
        self.count = 0
        self.cycle = 0
        self._queue: deque[AtsTlp] = deque()
        self._later: list[tuple[int, int, Callable[[], None]]] = []
        self._order = 0
        self._header: int | None = None
        self._beats: list[bytes] = []
        dut.tx_tready.value = 0
        dut.rx_tvalid.value = 0
        dut.np_credit.value = 1

    def send(self, tlp: AtsTlp) -> None:
        """Queues ``tlp`` for the device; order is kept."""
        self._queue.append(tlp)

    def after(self, cycles: int, call: Callable[[], None]) -> None:
        """Calls ``call`` that many cycles from now; the same cycle: in order."""
        self._order += 1
        heappush(self._later, (self.cycle + cycles, self._order, call))

    @property
    def backlog(self) -> int:
        """Packets that wait for the device."""
        return len(self._queue)

    def start(self) -> None:
        """Begins to serve the ports."""
        cocotb.start_soon(self._run())

    async def _run(self) -> None:
        dut, edge = self._dut, RisingEdge(self._clock)
        tx_valid, rx_ready = dut.tx_tvalid, dut.rx_tready
        accepting = False
        beats: deque[int] = deque()
        current: AtsTlp | None = None
        pause = 0
        while True:
            await edge
            self.cycle += 1
            while self._later and self._later[0][0] <= self.cycle:
                heappop(self._later)[2]()
            if accepting and tx_valid.value == 1:
                self._take()
            if current is not None and rx_ready.value == 1:
                beats.popleft()
                if beats:
                    self._drive(beats)
                else:
                    for listener in self.sent_listeners:
                        listener(current)
                    current, pause = None, self.gap()
                    dut.rx_tvalid.value = 0
            if current is None and pause:
                pause -= 1
            elif current is None and self._queue:
                current = self._queue.popleft()
                header, words = to_device(current)
                beats = deque(words)
                dut.rx_tuser.value = header
                dut.rx_tvalid.value = 1
                self._drive(beats)
            want = self.ready()
            if want != accepting:
                accepting = want
                dut.tx_tready.value = int(want)

    def _drive(self, beats: deque[int]) -> None:
        self._dut.rx_tdata.value = beats[0]
        self._dut.rx_tlast.value = int(len(beats) == 1)

    def _take(self) -> None:
        dut = self._dut
        if self._header is None:
            self._header = int(dut.tx_tuser.value)
        self._beats.append(dut.tx_tdata.value.to_unsigned().to_bytes(BEAT_BYTES, "little"))
        if dut.tx_tlast.value == 1:
            tlp = from_device(self._header, b"".join(self._beats), self.cycle, self.count)
            self.count += 1
            self._header, self._beats = None, []
            for listener in self.listeners:
                listener(tlp)
