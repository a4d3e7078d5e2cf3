# SPDX-License-Identifier: MIT
"""What a console line is taken for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vm.console import ConsoleLog, is_panic, strip_timestamp
from vm.splats import checker_of

SPLATS = [
    "[    1.5] WARNING: CPU: 0 PID: 1 at net/core/page_pool.c:1 page_pool_put+0x1",
    "[    1.5] BUG: kernel NULL pointer dereference, address: 0000000000000008",
    "[    1.5] WARNING: possible circular locking dependency detected",
    "[    1.5] WARNING: possible recursive locking detected",
    "[    1.5] refcount_t: underflow; use-after-free.",
    "[    1.5] page_pool_release_retry() stalled pool shutdown: id 1, 64 inflight 60 sec",
    "[    1.5] unregister_netdevice: waiting; memory leaked",
    "[    1.5] watchdog: BUG: soft lockup - CPU#0 stuck for 22s!",
    "[    1.5] DMAR: [DMA Write NO_PASID] Request device [01:00.0] fault addr 0xfff00000",
    "[    1.5] NETDEV WATCHDOG: eth0 (dmabed): transmit queue 0 timed out",
    "[    1.5] list_del corruption. prev->next should be 1, but was 2",
]
HARMLESS = [
    "[    1.5] dmabed 0000:01:00.0 eth0: link up",
    "[    1.5] virtio_iommu: module verification failed: tainting kernel",
    "[    1.5] amd_pstate: the _CPC object is not present in SBIOS or ACPI disabled",
    "[    0.0] DMAR: Host address width 39",
    "[    0.0] debug: BUGS are fine",
]


@pytest.mark.parametrize("line", SPLATS)
def test_splats_and_leaks_are_warnings(line: str) -> None:
    assert checker_of(line) is not None


@pytest.mark.parametrize("line", HARMLESS)
def test_ordinary_lines_are_not(line: str) -> None:
    assert checker_of(line) is None


def test_panic_is_noticed_and_its_lines_are_the_excerpt() -> None:
    log = ConsoleLog()
    before = "".join(f"[ 0.{number}] early {number}\r\n" for number in range(50))
    after = "".join(f"[ 2.{number}] trace {number}\r\n" for number in range(40))
    log.feed((before + "[    2.0] Kernel panic - not syncing: gone\r\n" + after).encode())
    assert log.panic == "Kernel panic - not syncing: gone"
    excerpt = log.excerpt()
    assert excerpt[0].endswith("early 45")
    assert excerpt[-1].endswith("trace 39")
    assert any(is_panic(line) for line in excerpt)


@given(st.lists(st.integers(1, 40), max_size=30))
def test_lines_are_the_same_however_they_were_cut(cuts: list[int]) -> None:
    text = "".join(f"{line}\r\n" for line in [*SPLATS, *HARMLESS]).encode()
    whole, pieces = ConsoleLog(), ConsoleLog()
    whole.feed(text)
    offset = 0
    for cut in cuts:
        pieces.feed(text[offset : offset + cut])
        offset += cut
    pieces.feed(text[offset:])
    assert pieces.last(100) == whole.last(100)
    assert pieces.warnings == whole.warnings == [strip_timestamp(line) for line in SPLATS]


def test_unfinished_line_is_shown_and_endless_output_is_bounded() -> None:
    log = ConsoleLog()
    log.feed(b"half a line")
    assert log.last() == ["half a line"]
    for _ in range(3000):
        log.feed(b"x" * 4000)
    assert sum(map(len, log.last(10**6))) < 20_000_000
