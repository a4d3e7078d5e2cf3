# SPDX-License-Identifier: MIT
"""The root complex of the RTL's bench: memory behind an IOMMU, reads answered late and in pieces.

Untranslated requests go through :class:`emulator.iommu.dma.SpaceDma`, as those of the NIC in
Python do; translated ones reach memory directly, at the address the agent gave. Both are told
to the device's ledger.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Final

import numpy as np
from cocotbext.pcie.core.tlp import CplStatus
from numpy.typing import NDArray

from emulator.iommu.dma import AccessLog, DmaGate, NoLog, SpaceDma
from emulator.iommu.mapping import target_of
from emulator.iommu.space import AddressSpace
from emulator.ports import DmaFault
from emulator.rtl.agent import GRANT_SHIFT, OFFSET_MASK, TranslationAgent
from emulator.rtl.link import Link
from emulator.rtl.tlp import AtsTlp, Kind, completion

RCB: Final = 64
"""Read completion boundary, bytes."""
INTERRUPTS: Final = 0xFEE0_0000
INTERRUPTS_END: Final = 0xFEF0_0000
NS_PER_CYCLE: Final = 4


class HostMemory:
    """``size`` zeroed bytes: the :class:`emulator.iommu.mapping.Memory` of the bench."""

    def __init__(self, size: int, index: int = 0) -> None:
        self.array: NDArray[np.uint8] = np.zeros(size, np.uint8)
        self.index = index


@dataclass
class ReadManners:
    """How reads are answered.

    delay: bounds of a random number of cycles. split: chance that a completion ends at any given
    read completion boundary. hold: asked for more cycles for this read; None: it is never answered.
    fail: asked for a status other than success, or "poison".
    """

    delay: tuple[int, int] = (4, 60)
    split: float = 0.3
    hold: Callable[[AtsTlp], int | None] = lambda tlp: 0
    fail: Callable[[AtsTlp], CplStatus | str] = lambda tlp: CplStatus.SC


class RootComplex:
    """What the device's requests meet. interrupt(address, data): a message-signalled interrupt."""

    def __init__(
        self,
        link: Link,
        agent: TranslationAgent,
        space: AddressSpace,
        memory: HostMemory,
        rng: Random,
        ledger: AccessLog | None = None,
    ) -> None:
        self._link, self._rng, self._memory = link, rng, memory
        self.agent, self.space = agent, space
        self._log: AccessLog = NoLog() if ledger is None else ledger
        self.gate = DmaGate(open=True)
        self.port = SpaceDma(space, self._log, self.gate)
        self.reads = ReadManners()
        self.interrupt: Callable[[int, int], None] = lambda address, data: None
        self.on_write: list[Callable[[AtsTlp, int], None]] = []
        self.on_read: list[Callable[[AtsTlp, int, bytes], None]] = []
        self.on_final: list[Callable[[int], None]] = []
        self.faults: list[DmaFault] = []
        link.listeners.append(self.handle)
        link.sent_listeners.append(self._sent)
        self._final: dict[int, int] = {}

    @property
    def now_ns(self) -> int:
        """The time of the simulation."""
        return self._link.cycle * NS_PER_CYCLE

    def handle(self, tlp: AtsTlp) -> None:
        """Takes one request of the device."""
        self.port.now_ns = self.now_ns
        if tlp.kind is Kind.WRITE:
            self._write(tlp)
        elif tlp.kind is Kind.READ:
            self._read(tlp)
        elif tlp.kind is Kind.TRANSLATION:
            self.agent.request(tlp)
        else:
            self.agent.completed(tlp)

    def iova_of(self, tlp: AtsTlp) -> int:
        """The IOVA behind the request's address."""
        if not tlp.translated:
            return tlp.addr
        grant = self.agent.grants.get(tlp.addr >> GRANT_SHIFT)
        return tlp.addr if grant is None else grant.iova_of(tlp.addr)

    # ------------------------------------------------------------------ writes
    def _write(self, tlp: AtsTlp) -> None:
        if not tlp.translated and INTERRUPTS <= tlp.addr < INTERRUPTS_END:
            self.interrupt(tlp.addr, int.from_bytes(tlp.payload, "little"))
            return
        iova = self.iova_of(tlp)
        for listener in self.on_write:
            listener(tlp, iova)
        if tlp.translated:
            at = tlp.addr & OFFSET_MASK
            self._note(tlp, iova)
            self._memory.array[at : at + tlp.size] = np.frombuffer(tlp.payload, np.uint8)
            return
        try:
            self.port.write(iova, tlp.payload)
        except DmaFault as fault:
            self.faults.append(fault)

    def _note(self, tlp: AtsTlp, iova: int) -> None:
        one = np.array([iova], np.uint64), np.array([tlp.size], np.int64)
        target = np.array([target_of(self._memory, tlp.addr & OFFSET_MASK)], np.int64)
        self._log.accessed(self.now_ns, *one, tlp.kind is Kind.WRITE, np.ones(1, np.bool_), target)

    # ------------------------------------------------------------------ reads
    def _read(self, tlp: AtsTlp) -> None:
        hold = self.reads.hold(tlp)
        if hold is None:
            return
        status = self.reads.fail(tlp)
        delay = hold + self._rng.randint(*self.reads.delay)
        if tlp.translated:
            self._note(tlp, self.iova_of(tlp))
            self._link.after(delay, lambda: self._answer(tlp, self._direct(tlp), status))
            return
        try:
            data = self.port.read(tlp.addr, tlp.size)
        except DmaFault as fault:
            self.faults.append(fault)
            data, status = b"", CplStatus.UR
        self._link.after(delay, lambda: self._answer(tlp, data, status))

    def _direct(self, tlp: AtsTlp) -> bytes:
        at = tlp.addr & OFFSET_MASK
        return self._memory.array[at : at + tlp.size].tobytes()

    def _answer(self, tlp: AtsTlp, data: bytes, status: CplStatus | str) -> None:
        if isinstance(status, CplStatus) and status is not CplStatus.SC:
            self._last(tlp.tag, completion(tlp, b"", 4, status))
            return
        for listener in self.on_read:
            listener(tlp, self.iova_of(tlp), data)
        left = len(data)
        for part in self._parts(tlp.addr, data):
            bad = status == "poison" and left == len(data)
            packet = completion(tlp, part, left, poison=bad)
            left -= len(part)
            if left:
                self._link.send(packet)
            else:
                self._last(tlp.tag, packet)

    def _last(self, tag: int, packet: object) -> None:
        self._final[id(packet)] = tag
        self._link.send(packet)  # type: ignore[arg-type]

    def _sent(self, packet: object) -> None:
        tag = self._final.pop(id(packet), None)
        if tag is not None:
            for listener in self.on_final:
                listener(tag)

    def _parts(self, addr: int, data: bytes) -> list[bytes]:
        """Cuts ``data`` at some of its read completion boundaries."""
        cuts, at = [0], RCB - addr % RCB
        while at < len(data):
            if self._rng.random() < self.reads.split:
                cuts.append(at)
            at += RCB
        return [data[a:b] for a, b in zip(cuts, [*cuts[1:], len(data)], strict=True)]
