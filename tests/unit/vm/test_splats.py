# SPDX-License-Identifier: MIT
"""Whose report a splat on the console is, what it is about, and where it ends."""

from __future__ import annotations

import pytest

from vm.console import ConsoleLog
from vm.splats import Splat, by_checker, checker_of, drivers_fault

KASAN = """\
[   20.100000] ==================================================================
[   20.100010] BUG: KASAN: slab-use-after-free in nic_poll+0x41/0x90 [nic]
[   20.100020] Read of size 8 at addr ffff888001234000 by task ip/77
[   20.100030]
[   20.100040] CPU: 0 UID: 0 PID: 77 Comm: ip Tainted: G           O       6.12.1 #1
[   20.100050] Call Trace:
[   20.100060]  <TASK>
[   20.100070]  dump_stack_lvl+0x61/0x80
[   20.100080]  print_report+0xc1/0x600
[   20.100090]  ? __virt_addr_valid+0x20/0x30
[   20.100100]  kasan_report+0xb0/0xe0
[   20.100110]  ? nic_poll+0x41/0x90 [nic]
[   20.100120]  nic_poll+0x41/0x90 [nic]
[   20.100130]  __napi_poll+0x31/0x100
[   20.100140]  </TASK>
[   20.100150]
[   20.100160] Allocated by task 76:
[   20.100170]  kasan_save_stack+0x20/0x40
[   20.100180]  nic_setup+0x10/0x20 [nic]
[   20.100190] ==================================================================
"""
DMA_API = """\
[   21.000000] ------------[ cut here ]------------
[   21.000010] DMA-API: nic 0000:01:00.0: device driver frees DMA memory with different size
[   21.000020] WARNING: CPU: 0 PID: 80 at kernel/dma/debug.c:999 check_unmap+0xb69/0x22f0
[   21.000030] Modules linked in: nic(O)
[   21.000040] RIP: 0010:check_unmap+0xb69/0x22f0
[   21.000050] Call Trace:
[   21.000060]  <TASK>
[   21.000070]  ? __warn+0x80/0x100
[   21.000080]  debug_dma_unmap_page+0xc5/0xd0
[   21.000090]  dma_unmap_page_attrs+0x2df/0x7b0
[   21.000100]  nic_drain+0x70/0x190 [nic]
[   21.000110]  </TASK>
[   21.000120] ---[ end trace 0000000000000000 ]---
[   21.000130] DMA-API: Mapped at:
[   21.000140]  debug_dma_map_page+0x1/0x2
"""
LOCKDEP = """\
[   22.000000] ======================================================
[   22.000010] WARNING: possible circular locking dependency detected
[   22.000020] 6.12.1 #1 Tainted: G           O
[   22.000030] ------------------------------------------------------
[   22.000040] insmod/90 is trying to acquire lock:
[   22.000050] ffffffffc0002000 (b){+.+.}-{2:2}, at: nic_second+0x1/0x2 [nic]
[   22.000060] -> #1 (b){+.+.}-{2:2}:
[   22.000070]        lock_acquire+0xd1/0x2e0
[   22.000080] stack backtrace:
[   22.000090] Call Trace:
[   22.000100]  <TASK>
[   22.000110]  dump_stack_lvl+0x61/0x80
[   22.000120]  print_circular_bug+0x1/0x2
[   22.000130]  check_noncircular+0x1/0x2
[   22.000140]  __lock_acquire+0x1/0x2
[   22.000150]  lock_acquire+0x1/0x2
[   22.000160]  _raw_spin_lock+0x1/0x2
[   22.000170]  nic_second+0x1/0x2 [nic]
[   22.000180]  </TASK>
"""
TALK = "[   23.000000] nic 0000:01:00.0 eth0: link up\n"


def read(text: str) -> list[Splat]:
    log = ConsoleLog()
    log.feed(text.replace("\n", "\r\n").encode())
    return log.splats


@pytest.mark.parametrize(
    ("text", "checker", "frames"),
    [
        (KASAN, "kasan", ["nic_poll [nic]", "__napi_poll"]),
        (DMA_API, "dma-api", ["dma_unmap_page_attrs", "nic_drain [nic]"]),
        (LOCKDEP, "lockdep", ["_raw_spin_lock", "nic_second [nic]"]),
    ],
)
def test_checker_or_culprit_is_taken_for_another(
    text: str, checker: str, frames: list[str]
) -> None:
    (splat,) = read(TALK + text + TALK)
    assert (splat.checker, splat.frames) == (checker, frames)
    assert str(splat) == f"{splat.title}; in {' < '.join(frames)}"
    assert not any("link up" in line for line in splat.lines[: len(splat.lines) - 1])


def test_one_splat_swallows_the_next() -> None:
    splats = read(KASAN + DMA_API + DMA_API + LOCKDEP)
    assert [splat.checker for splat in splats] == ["kasan", "dma-api", "dma-api", "lockdep"]
    told = by_checker(splats)
    assert {name: len(said) for name, said in told.items()} == {
        "kasan": 1,
        "dma-api": 2,
        "lockdep": 1,
    }


def test_warning_after_a_complete_splat_passes_for_its_place() -> None:
    """Only the WARN() line that comes with a text is part of that text's splat."""
    warning = "[   24.0] WARNING: CPU: 0 PID: 1 at mm/slub.c:1 made_up+0x1/0x2\n"
    assert [splat.checker for splat in read(DMA_API + warning)] == ["dma-api", "warning"]
    assert [splat.checker for splat in read(KASAN + warning)] == ["kasan", "warning"]


@pytest.mark.parametrize(
    ("line", "checker"),
    [
        ("BUG: sleeping function called from invalid context at nic.c:1", "atomic-sleep"),
        ("BUG: scheduling while atomic: ip/1/0x00000002", "atomic-sleep"),
        ("WARNING: inconsistent lock state", "lockdep"),
        ("WARNING: SOFTIRQ-safe -> SOFTIRQ-unsafe lock order detected", "lockdep"),
        ("WARNING: suspicious RCU usage", "lockdep"),
        ("WARNING: CPU: 0 PID: 1 at kernel/locking/lockdep.c:4409 x+0x1/0x2", "lockdep"),
        ("kmemleak: 3 new suspected memory leaks (see /sys/kernel/debug/kmemleak)", "kmemleak"),
        ("UBSAN: array-index-out-of-bounds in nic.c:1:2", "ubsan"),
        ("ODEBUG: free active (active state 0) object: 1 object type: timer_list", "debug-objects"),
        ("BUG: Bad page state in process ip  pfn:0a000", "page"),
        ("BUG: kernel NULL pointer dereference, address: 0000000000000008", "oops"),
        ("INFO: task ip:1 blocked for more than 120 seconds.", "hang"),
        ("WARNING: CPU: 0 PID: 1 at net/core/dev.c:1 x+0x1/0x2", "warning"),
        ("DMA-API: preallocated 65536 debug entries", None),
        ("DMA-API: debugging enabled by kernel config", None),
        ("kmemleak: Automatic memory scanning thread started", None),
    ],
)
def test_line_of_one_checker_is_booked_to_another(line: str, checker: str | None) -> None:
    assert checker_of(line) == checker


MSIX = """\
[   32.464364] WARNING: CPU: 0 PID: 502 at arch/x86/mm/ioremap.c:461 iounmap+0xe8/0x130
[   32.477322] Call Trace:
[   32.477553]  <TASK>
[   32.477740]  ? __pci_enable_msix_range+0x567/0xe20
[   32.480540]  {caller}+0xff/0x1d0
[   32.483273]  nic_probe+0x391/0x7a0 [nic]
"""


@pytest.mark.parametrize(
    ("caller", "blamed"), [("pci_alloc_irq_vectors_affinity", 0), ("pci_iounmap", 1)]
)
def test_driver_is_blamed_for_the_kernels_second_unmap_of_the_msix_table(
    caller: str, blamed: int
) -> None:
    log = ConsoleLog()
    log.feed(MSIX.format(caller=caller).encode())
    assert len(log.splats) == 1
    assert len(drivers_fault(log.splats)) == blamed


SLEEPS = """\
[   25.698131] BUG: sleeping function called from invalid context at include/linux/sched/mm.h:321
[   25.704716] Call Trace:
[   25.704858]  <TASK>
[   25.705009]  __might_resched+0x3ba/0x5e0
[   25.705251]  kmem_cache_alloc_lru_noprof+0x24b/0x2d0
{index}[   25.705542]  __page_pool_alloc_pages_slow+0x1/0x2
[   25.705571]  nic_refill+0x11d/0x240 [nic]
"""
INDEX = """\
[   25.705352]  __xas_nomem+0x1ee/0x5f0
[   25.705352]  __xa_alloc+0x1f8/0x2d0
[   25.705352]  page_pool_dma_map+0x1c1/0x7d0
"""


@pytest.mark.parametrize(("index", "blamed"), [(INDEX, 0), ("", 1)])
def test_driver_is_blamed_for_the_pools_index_that_waits_with_bottom_halves_off(
    index: str, blamed: int
) -> None:
    log = ConsoleLog()
    log.feed(SLEEPS.format(index=index).encode())
    said = drivers_fault(log.splats)
    assert len(said) == blamed
    assert all("nic_refill [nic]" in line for line in said)


def test_module_deep_in_a_stack_is_not_named() -> None:
    log = ConsoleLog()
    depth = "".join(f"[    1.000000]  reclaim_{n}+0x1/0x2\n" for n in range(9))
    log.feed(
        b"[    1.000000] watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [ethtool:149]\n"
        + depth.encode()
        + b"[    1.000000]  nic_refill+0x1/0x2 [nic]\n[    1.000000]  nic_open+0x1/0x2 [nic]\n"
    )
    (said,) = drivers_fault(log.splats)
    assert said.endswith("reclaim_3 < reclaim_4 < ... < nic_refill [nic]")


SYNC = """\
[   40.000000] DMA-API: nic 0:02:00.0: device driver tries to sync DMA memory it has not allocated
[   40.000000] WARNING: CPU: 0 PID: 1 at kernel/dma/debug.c:1097 check_sync+0x1/0x2
[   40.000000]  debug_dma_sync_single_for_device+0x1/0x2
[   40.000000]  __dma_sync_single_for_device+0x1/0x2
[   40.000000]  {by}+0x1/0x2
[   40.000000]  nic_refill+0x1/0x2 [nic]
"""


@pytest.mark.parametrize(("by", "blamed"), [("page_pool_dma_map", 0), ("page_pool_put_page", 1)])
def test_driver_is_blamed_for_a_sync_of_what_the_pool_has_just_mapped(by: str, blamed: int) -> None:
    log = ConsoleLog()
    log.feed(SYNC.format(by=by).encode())
    assert len(log.splats) == 1
    assert len(drivers_fault(log.splats)) == blamed
