# SPDX-License-Identifier: MIT
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.frames import FrameBatch
from emulator.iommu.dma import DmaGate, SpaceDma
from emulator.iommu.space import AddressSpace
from emulator.ports import DmaFault

PAGE = 4096
PAGES = 16


class FakeMemory:
    def __init__(self, index=0, size=1 << 20):
        self.array = np.random.default_rng(index).integers(0, 256, size).astype(np.uint8)
        self.index = index


class FakeRemote:
    def __init__(self):
        self.bytes = bytearray(1 << 16)
        self.broken = False

    def dma_read(self, iova, length):
        if self.broken:
            raise DmaFault(iova, length, False, "the client said no")
        return bytes(self.bytes[iova : iova + length])

    def dma_write(self, iova, data):
        if self.broken:
            raise DmaFault(iova, len(data), True, "the client said no")
        self.bytes[iova : iova + len(data)] = data


class Recorder:
    def __init__(self):
        self.made = []
        self.refused = []

    def accessed(self, now_ns, iovas, lengths, write, ok, targets=None):
        for iova, length, done in zip(iovas.tolist(), lengths.tolist(), ok.tolist(), strict=True):
            (self.made if done else self.refused).append((now_ns, iova, length, write))

    def access_refused(self, now_ns, iova, length, write, reason):
        self.refused.append((now_ns, iova, length, write))


@pytest.fixture
def memory():
    return FakeMemory()


@pytest.fixture
def dma(memory):
    space = AddressSpace("nic0")
    for page in range(PAGES):
        space.map(page * PAGE, PAGE, memory, (PAGES - page) * PAGE, True, page != 3, 0)
    port = SpaceDma(space, Recorder(), DmaGate(True))
    port.now_ns = 42
    return port


def place(iova):
    return (PAGES - iova // PAGE) * PAGE + iova % PAGE


def test_read_and_write_cross_pages_that_lie_apart(dma, memory):
    data = bytes(range(256)) * 20
    dma.write(PAGE - 100, data[: PAGE + 200])
    assert dma.read(PAGE - 100, PAGE + 200) == data[: PAGE + 200]
    assert memory.array[place(PAGE - 1)] == data[99]
    assert memory.array[place(PAGE)] == data[100]
    assert dma.log.made[:3] == [
        (42, PAGE - 100, 100, True),
        (42, PAGE, PAGE, True),
        (42, 2 * PAGE, 100, True),
    ]


def test_refused_write_writes_nothing_at_all(dma, memory):
    before = memory.array.copy()
    for iova, length in ((3 * PAGE - 8, 16), (3 * PAGE, 4), (PAGES * PAGE - 8, 16), (1 << 63, 1)):
        with pytest.raises(DmaFault) as caught:
            dma.write(iova, b"x" * length)
        assert caught.value.reason
    assert (memory.array == before).all()
    assert len(dma.log.refused) == 4 and dma.log.made == []


def test_closed_gate_refuses_every_access_with_its_cause(dma, memory):
    dma.gate.set(False, "in D3hot")
    with pytest.raises(DmaFault, match="D3hot"):
        dma.read(0, 4)
    before = memory.array.copy()
    frames = FrameBatch.of([b"a" * 60] * 3)
    assert not dma.scatter(np.arange(3, dtype=np.uint64) * PAGE, frames).any()
    got, ok = dma.gather(np.arange(3, dtype=np.uint64) * PAGE, np.full(3, 60))
    assert not ok.any() and list(got) == [bytes(60)] * 3
    assert (memory.array == before).all() and dma.log.made == []


def test_remote_memory_is_reached_by_messages_and_its_refusal_is_a_fault(dma):
    dma.space.map(PAGES * PAGE - 0 + 1 * PAGE, PAGE, None, 0, True, True, 0)
    iova = (PAGES + 1) * PAGE
    with pytest.raises(DmaFault, match="without a file"):
        dma.read(iova, 4)
    dma.remote = FakeRemote()
    dma.remote.bytes = bytearray(1 << 18)
    dma.write(iova + 8, b"remote")
    assert dma.read(iova + 8, 6) == b"remote"
    frames = FrameBatch.of([b"local", b"far"])
    targets = np.array([0, iova], np.uint64)
    assert dma.scatter(targets, frames).all()
    got, ok = dma.gather(targets, np.array([5, 3]))
    assert ok.all() and list(got) == [b"local", b"far"]
    dma.remote.broken = True
    assert dma.scatter(targets, frames).tolist() == [True, False]
    with pytest.raises(DmaFault, match="said no"):
        dma.read(iova, 4)


def test_failing_remote_part_leaves_the_local_part_unwritten(dma, memory):
    dma.space.map(PAGES * PAGE, PAGE, None, 0, True, True, 0)
    dma.remote = FakeRemote()
    dma.remote.broken = True
    before = memory.array.copy()
    with pytest.raises(DmaFault):
        dma.write(PAGES * PAGE - 8, b"x" * 16)
    assert (memory.array == before).all()


def test_frames_in_two_memories_arrive_in_both(dma, memory):
    other = FakeMemory(1)
    dma.space.map(1 << 40, PAGE, other, 0, True, True, 0)
    assert dma.scatter(np.array([0, 1 << 40], np.uint64), FrameBatch.of([b"one", b"two"])).all()
    assert memory.array[place(0) :][:3].tobytes() == b"one"
    assert other.array[:3].tobytes() == b"two"


ACCESS = st.tuples(st.integers(0, (PAGES + 2) * PAGE), st.integers(0, 9000))


@settings(max_examples=150, deadline=None)
@given(
    accesses=st.lists(ACCESS, max_size=12),
    same=st.sampled_from([None, 60, 1514, 4096]),
    write=st.booleans(),
)
def test_batches_do_what_single_accesses_do(accesses, same, write):
    def fresh():
        memory = FakeMemory()
        space = AddressSpace("nic0")
        for page in range(PAGES):
            space.map(page * PAGE, PAGE, memory, (PAGES - page) * PAGE, page != 5, page != 3, 0)
        return SpaceDma(space, Recorder(), DmaGate(True)), memory

    (batch, batch_memory), (single, single_memory) = fresh(), fresh()
    iovas = np.array([a[0] for a in accesses], np.uint64)
    lengths = np.array([same or a[1] for a in accesses], np.int64)
    expected_ok, expected = [], []
    bodies = [bytes([i + 1]) * n for i, n in enumerate(lengths.tolist())]
    for iova, length, body in zip(iovas.tolist(), lengths.tolist(), bodies, strict=True):
        try:
            expected.append(single.write(iova, body) if write else single.read(iova, length))
            expected_ok.append(True)
        except DmaFault:
            expected.append(bytes(length))
            expected_ok.append(False)
    if write:
        assert batch.scatter(iovas, FrameBatch.of(bodies)).tolist() == expected_ok
    else:
        frames, ok = batch.gather(iovas, lengths)
        assert ok.tolist() == expected_ok and list(frames) == expected
    assert (batch_memory.array == single_memory.array).all()
    assert sorted(batch.log.refused) == sorted(single.log.refused)
    assert sum(a[2] for a in batch.log.made) == sum(a[2] for a in single.log.made)


@pytest.mark.parametrize("length", [16, PAGE + 16], ids=["one page", "two pages"])
def test_second_write_at_one_place_goes_where_that_is_by_now(dma, memory, length):
    """A completion ring is written twice at each place: what was found for the first may be old."""
    dma.write(5 * PAGE, bytes([1] * length))
    dma.space.unmap(5 * PAGE, PAGE, 0)
    with pytest.raises(DmaFault, match="not mapped"):
        dma.write(5 * PAGE, bytes([2] * length))
    dma.space.map(5 * PAGE, PAGE, memory, 100 * PAGE, True, True, 0)
    dma.write(5 * PAGE, bytes([3] * length))
    assert memory.array[place(5 * PAGE)] == 1
    assert memory.array[100 * PAGE] == 3
    dma.space.unmap_all(0)
    with pytest.raises(DmaFault, match="not mapped"):
        dma.write(5 * PAGE, bytes([4] * length))


def test_second_write_at_one_place_is_refused_once_the_gate_is_closed(dma, memory):
    dma.write(5 * PAGE, b"one")
    dma.gate.set(False, "bus mastering is off")
    with pytest.raises(DmaFault, match="bus mastering is off"):
        dma.write(5 * PAGE, b"two")
    assert memory.array[place(5 * PAGE) :][:3].tobytes() == b"one"


def test_read_is_not_taken_for_the_write_before_it_at_the_same_place(dma):
    dma.space.unmap(5 * PAGE, PAGE, 0)
    dma.space.map(5 * PAGE, PAGE, FakeMemory(), 0, False, True, 0)
    dma.write(5 * PAGE, b"abc")
    with pytest.raises(DmaFault, match="without permission to read"):
        dma.read(5 * PAGE, 3)
