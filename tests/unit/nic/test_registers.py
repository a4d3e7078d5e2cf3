# SPDX-License-Identifier: MIT
"""The register file, and what is generated from the one definition of the hardware."""

from __future__ import annotations

from pathlib import Path

import pytest

from emulator.nic import generate, rdl
from emulator.nic import registers as r
from emulator.nic.config import NicConfig, NicConfigError
from emulator.nic.descriptors import LAYOUTS
from emulator.nic.moderation import Moderation
from emulator.nic.regmap import Access, RegisterMap
from tests.support.nic_host import MAC, Host, Script


def test_generated_files_are_what_their_source_says() -> None:
    assert generate.drifted() == [], f"mend it with: {generate.COMMAND}"


def test_check_names_the_drifted_file_and_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    generate.write(tmp_path)
    assert generate.drifted(tmp_path) == []
    header = tmp_path / "driver/linux/dmabed_hw.h"
    header.write_text(header.read_text().replace("0x1000", "0x2000"))
    (tmp_path / "docs/registers.md").unlink()
    monkeypatch.setattr(generate, "drifted", lambda drifted=generate.drifted: drifted(tmp_path))
    assert generate.main(["--check"]) == 1
    told = capsys.readouterr().err
    assert "driver/linux/dmabed_hw.h" in told
    assert "docs/registers.md" in told
    assert told.count(generate.COMMAND) == 2


def without_prose(registers: RegisterMap) -> list[tuple[object, ...]]:
    return [
        (reg.name, reg.offset, reg.width, f.name, f.low, f.width, f.access, f.reset, f.fixed)
        for block in (registers.registers, registers.queue_registers)
        for reg in block
        for f in reg.fields
    ]


def test_generated_table_is_the_map_in_the_rdl() -> None:
    assert without_prose(r.MAP) == without_prose(rdl.load())


def test_every_entry_is_16_bytes_and_numpy_agrees_with_construct() -> None:
    for layout in LAYOUTS.values():
        assert layout.size == layout.dtype.itemsize == layout.struct.sizeof() == 16


@pytest.fixture
def host() -> Host:
    return Host(Script(), queues=3)


def test_identity_and_capabilities(host: Host) -> None:
    assert host.read(r.DMABED_ID) == r.DMABED_ID_MAGIC_VALUE
    assert host.read(r.DMABED_VERSION) == 0x10000
    assert host.read(r.DMABED_CAPS) == 3 | 12 << 8 | 6 << 16 | 4 << 24
    assert host.read(r.DMABED_FRAME_CAP) >= 9018


def test_read_only_fields_ignore_writes(host: Host) -> None:
    blocks = [(0, r.MAP.registers), (r.qp_base(0), r.MAP.queue_registers)]
    for base, registers in blocks:
        for register in registers:
            if any(f.access is not Access.RO for f in register.fields):
                continue
            before = host.read(base + register.offset)
            host.write(base + register.offset, 0xFFFFFFFF)
            assert host.read(base + register.offset) == before, register.name


@pytest.mark.parametrize(("offset", "size"), [(1, 4), (0, 1), (0, 2), (4, 8), (0x400, 4)])
def test_illegal_access_reads_zero_and_writes_nothing(host: Host, offset: int, size: int) -> None:
    assert host.read(offset, size) == 0
    host.write(r.DMABED_MAC_LO + offset, 0, size)
    assert host.read(r.DMABED_MAC_LO) == int.from_bytes(MAC[:4], "little")


def test_registers_of_pairs_that_were_not_built_read_zero(host: Host) -> None:
    host.write(r.qp_base(3) + r.DMABED_QP_MODERATION, 5)
    assert host.qp_read(3, r.DMABED_QP_MODERATION) == 0
    host.write(r.qp_base(2) + r.DMABED_QP_MODERATION, 5)
    assert host.qp_read(2, r.DMABED_QP_MODERATION) == 5


def test_doorbells_and_arm_read_zero(host: Host) -> None:
    for name in (r.DMABED_QP_RX_TAIL, r.DMABED_QP_TX_TAIL, r.DMABED_QP_ARM):
        host.write(r.qp_base(0) + name, 7)
        assert host.qp_read(0, name) == 0


def test_values_beyond_what_the_device_has_are_limited(host: Host) -> None:
    host.write(r.DMABED_RSS_QUEUES, 9)
    assert host.read(r.DMABED_RSS_QUEUES) == 3
    host.write(r.DMABED_MAX_FRAME, 0xFFFF)
    assert host.read(r.DMABED_MAX_FRAME) == host.read(r.DMABED_FRAME_CAP)


def test_reading_the_low_half_latches_the_high_half(host: Host) -> None:
    stats = host.nic.pairs[1].stats
    offset = r.qp_base(1) + r.DMABED_QP_RX_BYTES
    stats.rx_bytes = 0x1_FFFF_FFFF
    assert host.read(offset) == 0xFFFFFFFF
    stats.rx_bytes += 1
    assert host.read(offset + 4) == 1
    assert host.read(offset) == 0
    assert host.read(offset + 4) == 2
    assert host.read(offset, 8) == 0x2_0000_0000


def test_moderation_register_reaches_the_pair(host: Host) -> None:
    host.write(r.qp_base(1) + r.DMABED_QP_MODERATION, 3 << 16 | 70)
    moderation: Moderation = host.nic.pairs[1].moderation
    assert (moderation.usecs, moderation.frames) == (70, 3)


@pytest.mark.parametrize(
    "bad",
    [
        {"mac": b"\1\0\0\0\0\0"},
        {"mac": b"short"},
        {"queues": 0},
        {"queues": 17},
        {"ring_log2_max": 13},
        {"batch": 0},
    ],
)
def test_impossible_config_is_refused_by_name(bad: dict[str, object]) -> None:
    with pytest.raises(NicConfigError, match=next(iter(bad))):
        NicConfig(**({"mac": MAC} | bad))  # type: ignore[arg-type]


def test_note_reaches_the_observer_and_is_kept(host: Host) -> None:
    host.now = 5
    host.write(r.DMABED_NOTE, 77)
    assert host.watcher.notes == [(5, 77)]
    assert host.read(r.DMABED_NOTE) == 77
