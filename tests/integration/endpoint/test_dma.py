# SPDX-License-Identifier: MIT
"""Mappings and the DMA gate, from the client's message to the ledger's verdict."""

import threading
import time
from errno import EEXIST, EINVAL

import pytest

from emulator.endpoint import ClientMemory
from emulator.pci.device import PciDevice
from emulator.ports import DmaFault, RingKind
from emulator.seat import DeviceSeat
from emulator.vfio_user.messages import Command, DmaUnmapFlag
from tests.support.vfio_user_client import RefusedError, VfioUserClient, unmap_payload

PAGE = 4096
IOVA = 0xFFFFF000


class Prober(PciDevice):
    """Does the DMA that a test asks for, when it asks."""

    device_id = 0x0002

    def __init__(self):
        self.log = []

    def mmio_write(self, bar, offset, value, size, now_ns):
        self.dma.write(value, b"written by mmio")

    def reset(self, now_ns):
        self.log.append("reset")

    def bus_master(self, on, now_ns):
        self.log.append(on)


def tries(bench, iova=IOVA, length=8):
    """What a read and a write of the device yield: bytes, or the reason of the refusal."""
    try:
        data = bench.device.dma.read(iova, length)
        bench.device.dma.write(iova, data[::-1])
    except DmaFault as fault:
        return fault.reason
    return data


@pytest.fixture
def prober(bench):
    made = bench(Prober())
    made.enable()
    return made


def test_mapped_memory_is_reached_and_unmapped_memory_is_refused(prober):
    prober.fill(PAGE, b"abcdefgh")
    prober.map(IOVA, PAGE, PAGE)
    assert tries(prober) == b"abcdefgh"
    assert prober.memory(PAGE, 8) == b"hgfedcba"
    prober.client.dma_unmap(IOVA, PAGE)
    assert tries(prober) == "not mapped"
    totals = prober.endpoint.ledger.totals
    assert (totals.maps, totals.unmaps, totals.unmap_requests) == (1, 1, 1)
    assert prober.violations() == {}


def test_mapping_is_usable_until_its_invalidation_completes(prober):
    prober.map(IOVA)
    prober.delay(unmap_ns=500)
    message = prober.client.send(Command.DMA_UNMAP, unmap_payload(IOVA, PAGE))
    prober.pump()
    assert tries(prober) == bytes(8), "the invalidation has begun, no more"
    prober.now_ns += 499
    prober.pump()
    assert tries(prober) == bytes(8)
    prober.now_ns += 1
    prober.client.wait_reply(message)
    assert tries(prober) == "not mapped"
    assert prober.violations() == {}


def test_reply_to_a_map_waits_for_the_modelled_time(prober):
    prober.delay(map_ns=1_000)
    begun_ns = prober.now_ns

    def pump():
        prober.pump()
        prober.now_ns += 100

    prober.client.pump = pump
    prober.map(IOVA)
    assert prober.now_ns >= begun_ns + 1_000


def test_unmap_is_charged_for_the_pages_that_it_removes_and_no_others(prober):
    prober.delay(per_page_ns=10)
    prober.endpoint.dma_map(0, 2 * PAGE, True, True, 0, prober.guest, 0)
    prober.endpoint.dma_map(8 * PAGE, PAGE, True, True, 0, prober.guest, 0)
    for iova, size, everything, charged_ns in (
        (0, 2 * PAGE, False, 20),
        (0, 1 << 63, False, 30),
        (PAGE << 20, 1 << 40, False, 0),
        (0, 0, True, 30),
    ):
        assert prober.endpoint.dma_unmap_begin(iova, size, everything, 0) == charged_ns


def test_gate_closed_refuses_dma_without_a_violation(prober):
    prober.map(IOVA)
    prober.enable(2)
    assert tries(prober) == "bus mastering is off"
    assert prober.violations() == {}, "a refused access is no harm"


def test_access_that_gets_past_a_closed_gate_is_reported(prober):
    prober.map(IOVA)
    prober.enable(2)
    prober.endpoint.gate.set(True)  # a broken gate: the ledger knows better
    assert tries(prober) == bytes(8)
    assert prober.violations() == {"O-11": 2}


def test_open_gate_makes_the_rule_silent_again(prober):
    prober.enable(2)
    prober.enable()
    prober.map(IOVA)
    assert tries(prober) == bytes(8)
    assert prober.violations() == {}


def test_d3hot_refuses_dma(prober):
    prober.map(IOVA)
    prober.config_write(prober.register("pm.control"), 3)
    assert tries(prober) == "the function is in D3hot"
    assert prober.client.region_read(0, 0, 4) == b"\xff" * 4


def test_reset_by_message_closes_the_gate_and_keeps_the_mappings(prober):
    prober.map(IOVA)
    prober.device.log.clear()
    prober.client.reset()
    assert prober.device.log == [False, "reset"]
    assert tries(prober) == "bus mastering is off"
    prober.enable()
    assert tries(prober) == bytes(8)


def test_reset_gives_the_rings_back_in_the_ledger(prober):
    prober.map(IOVA)
    prober.device.observer.ring_started(0, 0, RingKind.RX_DESC, IOVA, 1024)
    prober.config_write(prober.register("pcie.device_control"), 0x8000)
    prober.client.dma_unmap(IOVA, PAGE)
    assert prober.violations() == {}, "a ring of a device that was reset is nobody's"


def test_flr_by_configuration_write_does_the_same(prober):
    prober.map(IOVA)
    prober.device.log.clear()
    prober.config_write(prober.register("pcie.device_control"), 0x8000)
    assert prober.device.log == [False, "reset"]
    assert tries(prober) == "bus mastering is off"


def test_overlapping_map_is_refused_and_the_first_one_stays(prober):
    prober.map(IOVA)
    with pytest.raises(RefusedError) as refused:
        prober.map(IOVA)
    assert refused.value.errno == EEXIST
    assert tries(prober) == bytes(8)
    assert prober.endpoint.ledger.totals.maps == 1


@pytest.mark.parametrize(("start", "size"), [(PAGE, PAGE), (0, PAGE), (PAGE, 4 * PAGE)])
def test_unmap_that_would_cut_a_mapping_is_refused_before_the_delay(prober, start, size):
    prober.map(0x10000, 2 * PAGE)
    prober.delay(unmap_ns=10**9)
    with pytest.raises(RefusedError) as refused:
        prober.client.dma_unmap(0x10000 + start, size)
    assert refused.value.errno == EINVAL
    assert tries(prober, 0x10000) == bytes(8)
    assert prober.endpoint.ledger.totals.unmap_requests == 0


def test_sweep_over_the_whole_space_unmaps_everything_in_it(prober):
    for page in range(5):
        prober.map(page << 30, PAGE, page * PAGE)
    prober.client.dma_unmap(0, 0xFFFFFFFF01100000 & ~0xFFF)
    assert len(prober.endpoint.space) == 0
    prober.client.dma_unmap(0, 1 << 63)
    assert prober.endpoint.ledger.totals.empty_unmaps == 1


def test_unmap_all_unmaps_all(prober):
    prober.map(0)
    prober.map((1 << 64) - PAGE)
    prober.client.dma_unmap(0, 0, DmaUnmapFlag.ALL)
    assert len(prober.endpoint.space) == 0
    assert prober.endpoint.ledger.totals.unmaps == 2


def test_client_that_dies_leaves_no_mapping_descriptor_or_state_behind(prober):
    files = prober.open_files()
    prober.map(IOVA)
    own = prober.eventfd(0)
    prober.client.close()
    while prober.server.connection is not None:
        prober.pump()
    assert len(prober.endpoint.space) == 0 and not prober.endpoint.space.memories
    assert len(prober.endpoint.memory) == 0
    assert prober.endpoint.ledger.live.mappings() == []
    assert not prober.endpoint.gate.open
    assert prober.device.log[-2:] == [False, "reset"]
    opened = prober.open_files() - files
    # The list itself was open when it was first made, perhaps under the number of ``own``.
    assert opened <= {str(own)}, "only the test's own event descriptor is left"
    assert prober.violations() == {}
    prober.client = prober.connect()
    prober.enable()
    prober.map(IOVA)
    assert tries(prober) == bytes(8)


def test_client_that_dies_during_an_invalidation_leaves_no_mapping(prober):
    prober.map(IOVA)
    prober.delay(unmap_ns=10**9)
    prober.client.send(Command.DMA_UNMAP, unmap_payload(IOVA, PAGE))
    prober.pump()
    prober.client.close()
    while prober.server.connection is not None:
        prober.pump()
    prober.now_ns += 2 * 10**9
    prober.pump()
    assert len(prober.endpoint.space) == 0
    assert prober.violations() == {}


def test_refused_dma_within_a_register_write_is_no_device_error(prober):
    prober.write(0, 0xDEAD000)
    assert prober.endpoint.device_errors == 0
    assert prober.endpoint.ledger.state is not None


def test_memory_without_a_file_is_reached_by_messages(bench):
    made = bench(Prober())
    made.client.close()
    made.server.close(made.now_ns)
    path = made.server.path.with_suffix(".2")
    seat = DeviceSeat(made.endpoint, path)
    stop = threading.Event()

    def serve():
        while not stop.is_set():
            if not seat.service(time.monotonic_ns()):
                time.sleep(0.0002)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with VfioUserClient.connect(path) as client:
            made.client = client
            client.version()
            made.enable()
            client.memory[IOVA] = bytearray(PAGE)
            client.dma_map(IOVA, PAGE)
            made.write(0, IOVA + 16)
            assert client.memory[IOVA][16:31] == b"written by mmio"
    finally:
        stop.set()
        thread.join()
        seat.close()


def test_client_that_refuses_a_dma_message_is_a_fault_and_no_crash():
    def refuse(*arguments):
        raise DmaFault(0, 1, False, "refused by the client")

    memory = ClientMemory(refuse, refuse)
    with pytest.raises(DmaFault):
        memory.dma_read(0x1000, 4)
    with pytest.raises(DmaFault):
        memory.dma_write(0x1000, b"1234")
