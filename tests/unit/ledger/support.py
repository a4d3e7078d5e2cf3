# SPDX-License-Identifier: MIT
"""One device as a session and a NIC would drive it, for the tests of the rules."""

import numpy as np

from emulator.iommu.dma import DmaGate, SpaceDma
from emulator.iommu.space import AddressSpace
from emulator.ports import RingKind

PAGE = 4096
RX, CQ, TX = RingKind.RX_DESC, RingKind.RX_CQ, RingKind.TX_DESC


class FakeMemory:
    def __init__(self):
        self.array = np.zeros(16 << 20, np.uint8)
        self.index = 0


def u64(*values):
    return np.array(values, np.uint64)


class Host:
    """A device with memory, an address space and a ledger; its gate is open."""

    def __init__(self, ledger, name="nic0", memory=None):
        self.memory = memory or FakeMemory()
        self.space = AddressSpace(name)
        self.ledger = ledger.device(name)
        self.gate = DmaGate(True)
        self.ledger.gate_changed(0, True)
        self.dma = SpaceDma(self.space, self.ledger, self.gate)

    def map(self, iova, offset=0, size=PAGE, now=0, readable=True, writable=True):
        mapping = self.space.map(iova, size, self.memory, offset, readable, writable, now)
        self.ledger.mapped(now, mapping)
        return mapping

    def unmap(self, iova, size=PAGE, now=0):
        self.ledger.unmap_requested(now, iova, size)
        self.ledger.unmapped(now, self.space.unmap(iova, size, now))

    def start(self, *pages, queue=0, kind=RX, now=0):
        for page in pages:
            self.ledger.ring_started(now, queue, kind, page * PAGE, PAGE)

    def post(self, *iovas, queue=0, kind=RX, length=2048, now=0):
        self.ledger.posted(now, queue, kind, u64(*iovas), np.full(len(iovas), length))

    def give_back(self, *iovas, queue=0, kind=RX, length=2048, now=0):
        self.ledger.returned(now, queue, kind, u64(*iovas), np.full(len(iovas), length))

    def tell(self, fact, now=0):
        self.ledger.tell(now, fact)

    def close_gate(self, now=0):
        self.ledger.gate_changed(now, False, "bus mastering is off")


def spoken(ledger):
    """Rule to how often it spoke."""
    return dict(ledger.log.counts)


def said(ledger):
    """The latest violation in words."""
    return str(ledger.log.kept[-1])
