# SPDX-License-Identifier: MIT
"""Address space and ledger keep their own books: over random legal histories they agree."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.frames import FrameBatch
from emulator.iommu.dma import DmaGate, SpaceDma
from emulator.iommu.errors import MappingError
from emulator.iommu.space import AddressSpace
from emulator.ledger import Ledger

PAGE = 4096
PAGE_NUMBER = st.integers(0, 1100)
STEP = st.tuples(
    st.sampled_from(["map", "map", "unmap", "scatter", "gather", "all"]),
    PAGE_NUMBER,
    st.sampled_from([1, 1, 2, 3, 512, 513, 700]),
    st.integers(0, PAGE),
)


class FakeMemory:
    def __init__(self):
        self.array = np.zeros(2048 * PAGE, np.uint8)
        self.index = 0


@settings(max_examples=80, deadline=None)
@given(steps=st.lists(STEP, max_size=40))
def test_legal_histories_are_silent_and_both_books_agree(steps):
    ledger = Ledger(lambda: 0)
    device, space, memory = ledger.device("nic0"), AddressSpace("nic0"), FakeMemory()
    device.gate_changed(0, True)
    dma = SpaceDma(space, device, DmaGate(True))
    for now_ns, (what, page, size, extra) in enumerate(steps):
        iova, length = page * PAGE, size * PAGE
        batch = np.array([iova, iova + extra, iova], np.uint64)
        try:
            if what == "map":
                offset = (extra % 1024) * PAGE
                mapping = space.map(iova, length, memory, offset, True, extra % 3 > 0, now_ns)
                device.mapped(now_ns, mapping)
            elif what == "unmap" and device.live.within(iova, length):
                removed = space.unmap(iova, length, now_ns)
                device.unmap_requested(now_ns, iova, length)
                device.unmapped(now_ns, removed)
            elif what == "all":
                device.unmap_requested(now_ns, 0, 1 << 64)
                device.unmapped(now_ns, space.unmap_all(now_ns))
            elif what == "unmap":
                continue  # twice is not legal
            elif what == "scatter":
                dma.scatter(batch, FrameBatch.of([b"x" * 64, b"y" * (extra + 1), b"z"]))
            else:
                dma.gather(batch, np.array([64, extra, 9000]))
        except MappingError:
            continue
    assert dict(ledger.log.counts) == {}
    assert device.live.mappings() == sorted(space)
    assert device.live.count == len(space)
