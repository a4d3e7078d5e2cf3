# SPDX-License-Identifier: MIT
"""Register accesses and interrupts through a socket, and devices that misbehave."""

import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emulator.pci.device import PciDevice
from emulator.vfio_user.messages import IrqSetFlag, PciIrq, PciRegion
from tests.support.vfio_user_client import RefusedError

MASK = IrqSetFlag.DATA_NONE | IrqSetFlag.ACTION_MASK
UNMASK = IrqSetFlag.DATA_NONE | IrqSetFlag.ACTION_UNMASK
TRIGGER = IrqSetFlag.DATA_NONE | IrqSetFlag.ACTION_TRIGGER
PBA = 0x800


class Recorder(PciDevice):
    """Notes its accesses; reads yield the offset, in every byte."""

    device_id = 0x0003
    msix_vectors = 3

    def __init__(self):
        self.accesses = []
        self.fails = False
        self.value = None

    def mmio_read(self, bar, offset, size):
        self.accesses.append(("read", bar, offset, size))
        if self.fails:
            raise ZeroDivisionError("a bug of the device")
        return self.value if self.value is not None else offset * 0x0101010101010101

    def mmio_write(self, bar, offset, value, size, now_ns):
        self.accesses.append(("write", bar, offset, value, size))
        if self.fails:
            raise ZeroDivisionError("a bug of the device")

    def step(self, now_ns):
        if self.fails:
            raise ZeroDivisionError("a bug of the device")
        return now_ns + 5


@pytest.fixture
def served(bench):
    made = bench(Recorder())
    made.enable()
    return made


def test_client_is_told_of_bars_config_space_and_interrupts(served):
    info = served.client.get_info()
    assert (info.num_regions, info.num_irqs) == (9, 5)
    sizes = [served.client.get_region_info(i)[0].info.size for i in range(9)]
    assert sizes == [4096, 0, 0, 0, 4096, 0, 0, 4096, 0]
    assert [served.client.get_irq_info(i).count for i in range(5)] == [0, 0, 3, 1, 1]


@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_aligned_word_reaches_the_device_as_one_access(served, size):
    served.write(0x10, 0x55, size)
    assert served.read(0x10, size) == int.from_bytes(b"\x10" * size, "little")
    assert served.device.accesses == [("write", 0, 0x10, 0x55, size), ("read", 0, 0x10, size)]


def test_access_that_is_no_word_is_cut_at_natural_borders(served):
    served.client.region_write(0, 3, bytes(range(14)))
    assert [(a[2], a[4]) for a in served.device.accesses] == [(3, 1), (4, 4), (8, 8), (16, 1)]
    assert served.client.region_read(0, 6, 4) == b"\x06\x06\x08\x08"


def test_bars_read_ones_and_ignore_writes_while_memory_decoding_is_off(served):
    served.enable(0)
    served.write(0, 1)
    assert served.read(0, 4) == 0xFFFFFFFF
    assert served.client.region_read(4, 0, 8) == b"\xff" * 8
    assert served.device.accesses == []


def test_config_space_is_4096_bytes_for_the_client(served):
    image = served.client.region_read(PciRegion.CONFIG, 0, 4096)
    assert image[:4] == b"\x34\x12\x03\x00" and image[0x100] == 1
    with pytest.raises(RefusedError):
        served.client.region_read(PciRegion.CONFIG, 4095, 2)


@pytest.mark.parametrize("value", [-1, 1 << 80])
def test_value_that_does_not_fit_is_cut_to_the_access(served, value):
    served.device.value = value
    assert served.read(0, 4) == value & 0xFFFFFFFF
    assert served.endpoint.device_errors == 0


@pytest.mark.parametrize("value", ["text", 1.5])
def test_value_that_is_no_integer_reads_as_ones_and_is_counted(served, value):
    served.device.value = value
    assert served.read(0, 4) == 0xFFFFFFFF
    assert served.endpoint.device_errors == 1


def test_device_that_raises_does_not_take_the_server_down(served):
    served.device.fails = True
    assert served.read(0, 4) == 0xFFFFFFFF
    served.write(0, 1)
    assert served.endpoint.step(0) is None
    assert served.endpoint.device_errors == 3
    served.device.fails = False
    assert served.read(4, 1) == 4
    assert served.endpoint.step(10) == 15


def test_raised_vector_signals_its_own_descriptor_only(served, signals):
    fds = [served.eventfd(vector) for vector in range(3)]
    served.device.irq.raise_vector(1)
    assert [signals(fd) for fd in fds] == [0, 1, 0]


def test_interrupt_waits_for_its_descriptor_and_shows_in_the_pba(served, signals):
    served.config_write(served.register("msix.control"), 0x8000)
    served.device.irq.raise_vector(2)
    assert served.client.region_read(4, PBA, 8) == b"\x04" + bytes(7)
    assert signals(served.eventfd(2)) == 1
    assert served.client.region_read(4, PBA, 8) == bytes(8)


def test_vector_masked_by_message_is_signalled_on_unmask(served, signals):
    fd = served.eventfd(0)
    served.client.set_irqs(PciIrq.MSIX, MASK, 0, 1)
    served.device.irq.raise_vector(0)
    served.device.irq.raise_vector(0)
    assert signals(fd) == 0
    served.client.set_irqs(PciIrq.MSIX, UNMASK, 0, 1)
    assert signals(fd) == 1


def test_vector_masked_in_the_table_is_signalled_on_unmask(served, signals):
    fd = served.eventfd(1)
    served.client.region_write(4, 16 + 12, b"\1\0\0\0")
    served.device.irq.raise_vector(1)
    assert signals(fd) == 0
    served.client.region_write(4, 16 + 12, b"\0\0\0\0")
    assert signals(fd) == 1


def test_interrupt_without_bus_mastering_waits_for_it(served, signals):
    fd = served.eventfd(0)
    served.enable(2)
    served.device.irq.raise_vector(0)
    assert signals(fd) == 0, "a message is a memory write"
    served.enable()
    assert signals(fd) == 1


def test_loopback_trigger_signals_as_the_device_would(served, signals):
    fd = served.eventfd(0)
    served.client.set_irqs(PciIrq.MSIX, TRIGGER, 0, 1)
    assert signals(fd) == 1


def test_notice_descriptors_are_signalled_only_by_the_client(served, signals):
    fd = served.eventfd(0, PciIrq.REQ)
    served.device.irq.raise_vector(0)
    assert signals(fd) == 0
    served.client.set_irqs(PciIrq.REQ, TRIGGER, 0, 1)
    assert signals(fd) == 1


def test_disabling_closes_the_descriptors(served, signals):
    before = len(served.open_files())
    fds = [served.eventfd(vector) for vector in range(3)]
    assert len(served.open_files()) == before + 6
    served.client.set_irqs(PciIrq.MSIX, TRIGGER, 0, 0)
    assert len(served.open_files()) == before + 3
    served.device.irq.raise_vector(0)
    assert signals(fds[0]) == 0


def test_replacing_a_descriptor_closes_the_old_one(served, signals):
    before = len(served.open_files())
    old, new = served.eventfd(0), served.eventfd(0)
    assert len(served.open_files()) == before + 3
    served.device.irq.raise_vector(0)
    assert (signals(old), signals(new)) == (0, 1)


def test_taking_descriptors_away_leaves_the_vector_pending(served, signals):
    fd = served.eventfd(0)
    served.eventfd(1)
    flags = IrqSetFlag.DATA_EVENTFD | IrqSetFlag.ACTION_TRIGGER
    served.client.set_irqs(PciIrq.MSIX, flags, 0, 1)
    served.device.irq.raise_vector(0)
    assert signals(fd) == 0
    assert served.client.region_read(4, PBA, 1) == b"\1"


@pytest.mark.parametrize("kind", ["full", "pipe", "file"])
def test_descriptor_that_would_block_or_fail_does_not_hang_the_device(served, kind, tmp_path):
    others = []
    if kind == "full":
        fd = os.eventfd((1 << 32) - 1, os.EFD_CLOEXEC)
        os.eventfd_write(fd, (1 << 64) - 2 - ((1 << 32) - 1))
    elif kind == "pipe":
        reader, fd = os.pipe()
        others.append(reader)
        os.set_blocking(fd, False)
        while not full(fd):
            pass
        os.set_blocking(fd, True)
    else:
        fd = os.open(tmp_path / "f", os.O_RDONLY | os.O_CREAT)
    served.client.set_eventfds(PciIrq.MSIX, 0, [fd])
    served.device.irq.raise_vector(0)
    assert served.read(1, 1) == 1, "still served"
    for each in (fd, *others):
        os.close(each)


def full(fd):
    try:
        os.write(fd, bytes(4096))
    except BlockingIOError:
        return True
    return False


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    region=st.integers(0, 8),
    offset=st.integers(0, 4200),
    data=st.binary(min_size=1, max_size=40),
)
def test_no_access_breaks_the_connection(served, region, offset, data):
    for access in (
        lambda: served.client.region_write(region, offset, data),
        lambda: served.client.region_read(region, offset, len(data)),
    ):
        try:
            access()
        except RefusedError:
            size = {0: 4096, 4: 4096, 7: 4096}.get(region, 0)
            assert offset + len(data) > size
    assert served.endpoint.device_errors == 0
