# SPDX-License-Identifier: MIT
"""What configuration writes do to the DMA gate, the power state and the device."""

import pytest

from emulator.pci import aer
from emulator.pci.capabilities import DEVCTL_FLR
from emulator.pci.device import PciDevice
from emulator.pci.function import PciFunction

MEM, BME = 2, 4


class Recorder(PciDevice):
    """A device that notes what it is told, together with the calls to the host."""

    device_id = 0x0001
    msix_vectors = 3

    def __init__(self):
        self.calls = []
        self.raise_in_reset = False

    def deliver(self, vector):
        self.calls.append(("deliver", vector))

    def gate_changed(self, is_open, why, now_ns):
        self.calls.append(("gate", is_open, why))

    def was_reset(self, now_ns):
        self.calls.append(("was_reset",))

    def bus_master(self, on, now_ns):
        self.calls.append(("bus_master", on))

    def reset(self, now_ns):
        self.calls.append(("reset",))
        if self.raise_in_reset:
            raise RuntimeError("a bug of the device")

    @staticmethod
    def write(function, name, value):
        register = function.config.register(name)
        function.config_write(register.offset, value.to_bytes(register.width, "little"), 0)


def make(no_soft_reset=False):
    log = Recorder()
    log.no_soft_reset = no_soft_reset
    return PciFunction(log, log), log


def test_dma_gate_opens_with_bus_mastering_and_closes_without():
    function, log = make()
    log.write(function, "command", BME)
    log.write(function, "command", 0)
    assert log.calls == [
        ("gate", True, ""),
        ("bus_master", True),
        ("gate", False, "bus mastering is off"),
        ("bus_master", False),
    ]


def test_gate_is_told_once_for_writes_that_change_nothing():
    function, log = make()
    for _ in range(3):
        log.write(function, "command", BME | MEM)
    assert log.calls.count(("gate", True, "")) == 1


def test_flr_closes_the_gate_before_the_device_resets():
    function, log = make()
    log.write(function, "command", BME | MEM)
    log.calls.clear()
    log.write(function, "pcie.device_control", DEVCTL_FLR)
    assert log.calls == [
        ("gate", False, "the function is in reset"),
        ("bus_master", False),
        ("reset",),
        ("gate", False, "bus mastering is off"),
        ("was_reset",),
    ]
    assert not function.gate_open and not function.mmio_on
    assert function.config["command"] == 0
    assert function.why_closed == "bus mastering is off"


def test_flr_bit_reads_zero():
    function, log = make()
    log.write(function, "pcie.device_control", DEVCTL_FLR | 0x2810)
    assert function.config["pcie.device_control"] & DEVCTL_FLR == 0


def test_flr_clears_bars_and_msix_but_keeps_sticky_bits():
    function, log = make()
    log.write(function, "bar0", 0xFEB00000)
    log.write(function, "msix.control", 0xC000)
    log.write(function, "pcie.device_control", 0x2830)
    log.write(function, "pcie.link_control", 0x0040)
    log.write(function, "aer.uncorrectable_mask", 0x00100000)
    aer.record_correctable(function.config, 0)
    function.reset(0)
    assert function.config["bar0"] == 4
    assert function.config["msix.control"] == 2
    assert function.config["pcie.device_control"] == 0x2830, "MPS survives (PCIe 6.6.2)"
    assert function.config["pcie.link_control"] == 0x0040
    assert function.config["aer.uncorrectable_mask"] == 0x00100000
    assert function.config["aer.correctable_status"] == 1
    assert function.config["pcie.device_status"] == 0


def test_flr_masks_every_vector_and_forgets_what_was_pending():
    function, log = make()
    log.write(function, "command", BME)
    log.write(function, "msix.control", 0x8000)
    function.msix.write(0, bytes(16))
    function.msix.raise_vector(0)
    assert function.msix.pending == {0}
    function.reset(0)
    assert function.msix.pending == set()
    assert function.msix.read(0, 16) == bytes(12) + b"\1\0\0\0"


def test_reset_while_bus_mastering_is_off_reaches_the_device():
    function, log = make()
    function.reset(7)
    assert [call for call in log.calls if call[0] != "gate"] == [("reset",), ("was_reset",)]


def test_device_that_raises_in_reset_does_not_leave_the_function_in_reset():
    function, log = make()
    log.raise_in_reset = True
    with pytest.raises(RuntimeError):
        function.reset(0)
    log.write(function, "command", BME)
    assert function.gate_open


def test_d3hot_stops_dma_and_mmio_and_keeps_config_space():
    function, log = make()
    log.write(function, "command", BME | MEM)
    log.write(function, "pm.control", 3)
    assert not function.gate_open and not function.mmio_on
    assert function.why_closed == "the function is in D3hot"
    assert function.config["command"] == BME | MEM


def test_leaving_d3hot_resets_the_function():
    function, log = make()
    log.write(function, "command", BME | MEM)
    log.write(function, "pm.control", 3)
    log.calls.clear()
    log.write(function, "pm.control", 0)
    assert [call for call in log.calls if call[0] != "gate"] == [("reset",), ("was_reset",)]
    assert function.config["command"] == 0 and function.in_d0


def test_no_soft_reset_keeps_state_over_d3hot():
    function, log = make(no_soft_reset=True)
    log.write(function, "command", BME | MEM)
    log.write(function, "pm.control", 3)
    log.calls.clear()
    log.write(function, "pm.control", 0)
    assert log.calls == [("gate", True, ""), ("bus_master", True)]
    assert function.config["command"] == BME | MEM and function.mmio_on


@pytest.mark.parametrize("state", [1, 2])
@pytest.mark.parametrize("before", [0, 3])
def test_write_of_a_power_state_that_does_not_exist_is_dropped(state, before):
    function, log = make()
    log.write(function, "pm.control", before)
    log.write(function, "pm.control", state)
    assert function.config["pm.control"] & 3 == before


def test_bus_mastering_set_in_d3hot_does_not_open_the_gate():
    function, log = make()
    log.write(function, "pm.control", 3)
    log.write(function, "command", BME)
    assert not function.gate_open


def test_aer_status_is_cleared_by_writing_ones():
    function, log = make()
    aer.record_uncorrectable(function.config, aer.UNSUPPORTED_REQUEST, (1, 2, 3, 4))
    aer.record_uncorrectable(function.config, aer.COMPLETION_TIMEOUT, (5, 6, 7, 8))
    log.write(function, "aer.uncorrectable_status", 1 << aer.UNSUPPORTED_REQUEST)
    assert function.config["aer.uncorrectable_status"] == 1 << aer.COMPLETION_TIMEOUT


def test_header_log_keeps_the_first_unmasked_error():
    function, log = make()
    log.write(function, "aer.uncorrectable_mask", 1 << aer.COMPLETER_ABORT)
    aer.record_uncorrectable(function.config, aer.COMPLETER_ABORT, (9, 9, 9, 9))
    aer.record_uncorrectable(function.config, aer.UNSUPPORTED_REQUEST, (1, 2, 3, 4))
    aer.record_uncorrectable(function.config, aer.COMPLETION_TIMEOUT, (5, 6, 7, 8))
    assert [function.config[f"aer.header_log{i}"] for i in range(4)] == [1, 2, 3, 4]
    assert function.config["aer.control"] & 0x1F == aer.UNSUPPORTED_REQUEST


def test_severity_decides_between_fatal_and_non_fatal():
    function, log = make()
    aer.record_uncorrectable(function.config, aer.UNSUPPORTED_REQUEST, (0, 0, 0, 0))
    assert function.config["pcie.device_status"] == 0b1010
    aer.record_uncorrectable(function.config, aer.MALFORMED_TLP, (0, 0, 0, 0))
    assert function.config["pcie.device_status"] == 0b1110
    log.write(function, "pcie.device_status", 0xF)
    assert function.config["pcie.device_status"] == 0


def test_error_that_an_endpoint_lacks_is_not_recorded():
    function, _ = make()
    aer.record_uncorrectable(function.config, 0, (1, 1, 1, 1))
    aer.record_correctable(function.config, 1)
    assert function.config["aer.uncorrectable_status"] == 0
    assert function.config["aer.correctable_status"] == 0
