# SPDX-License-Identifier: MIT
"""What a kernel complains of on its console: which of its checkers speaks, and what it says.

No I/O. A splat begins with a line that one of the signs below is in; its stack is read as far as
it comes, for the functions that name the culprit.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

#: Checker to what opens its reports. In order: the first that fits names the checker. The texts are
#: those of mm/kasan/report.c, kernel/locking/lockdep.c, kernel/dma/debug.c, lib/ubsan.c,
#: mm/kmemleak.c, lib/debugobjects.c, lib/refcount.c, lib/list_debug.c, net/core/page_pool.c.
_SIGNS: tuple[tuple[str, str], ...] = (
    ("kasan", r"BUG: KASAN:|KASAN: null-ptr-deref|KASAN: probably"),
    ("dma-api", r"DMA-API:"),
    (
        "lockdep",
        r"possible (recursive|circular) locking|possible irq lock inversion|"
        r"(SOFTIRQ|HARDIRQ)-safe -> \S+-unsafe lock|inconsistent lock state|bad unlock balance|"
        r"bad contention detected|held lock freed|lock held when returning|"
        r"Nested lock was not taken|suspicious RCU|BUG: Invalid wait context|"
        r"BUG: MAX_LOCK|chain_key collision|WARNING:.* at kernel/locking/",
    ),
    ("atomic-sleep", r"BUG: sleeping function called from invalid|BUG: scheduling while atomic"),
    ("kmemleak", r"kmemleak: \d+ new suspected"),
    ("ubsan", r"UBSAN:"),
    ("debug-objects", r"ODEBUG:"),
    ("refcount", r"refcount_t"),
    ("list", r"list_(add|del) corruption"),
    ("page", r"Bad page state|BUG: Bad (page|rss)|page dumped because"),
    ("page_pool", r"page_pool_release_retry|stalled pool|leaked"),
    ("iommu", r"DMAR:.*fault|virtio_iommu.*fault"),
    ("hang", r"soft lockup|rcu.*detected.*stall|blocked for more than|workqueue lockup"),
    ("netdev", r"NETDEV WATCHDOG|unregister_netdevice: waiting"),
    ("oops", r"Oops:|general protection fault|unable to handle|kernel BUG|\bBUG:"),
    ("warning", r"WARNING:"),
)
_CHECKERS = tuple((name, re.compile(sign)) for name, sign in _SIGNS)
#: Said by a healthy boot of the machines used here, or in a splat, although a sign is in it.
_EXPECTED = re.compile(
    r"DMAR: \[Firmware Bug\]|WARNING: CPU vulnerab|"
    r"DMA-API: (preallocated|debugging enabled|Mapped at)"
)
#: The line of WARN() that follows the text given to it: the same splat.
_WARN_AT = re.compile(r"WARNING: CPU: \d+ PID: \d+ at ")
_FRAME = re.compile(r"^ (?:\? )?([\w.]+)\+0x[0-9a-f]+/0x[0-9a-f]+( \[\w+\])?$")
#: How a splat is reported, not what it is about.
_MACHINERY = re.compile(
    r"^(dump_stack|show_stack|print_|kasan_|__asan_|__warn|warn_|report_bug|handle_bug|exc_|asm_|"
    r"lock_acquire|__lock_acquire|validate_chain|check_|debug_dma_|err_printk|ubsan_|__ubsan_|"
    r"lockdep_|mark_|__might_|refcount_warn|debug_object|__list_)"
)
_LINES_MAX = 250
_FRAMES_SHOWN = 5


def checker_of(line: str) -> str | None:
    """The checker whose report ``line`` opens; None: an ordinary line."""
    if _EXPECTED.search(line) is not None:
        return None
    return next((name for name, sign in _CHECKERS if sign.search(line)), None)


@dataclass
class Splat:
    """One complaint: ``title`` is its first line, without time stamp; ``lines`` follow it."""

    checker: str
    title: str
    lines: list[str] = field(default_factory=list)

    def goes_on(self, line: str) -> bool:
        """Takes ``line`` if it belongs to the splat."""
        ends = line.startswith(("---[ end trace", "======", "------------[ cut here"))
        if len(self.lines) >= _LINES_MAX or (ends and self.frames):
            return False
        self.lines.append(line)
        return True

    def is_place_of(self, line: str) -> bool:
        """True for WARN()'s own line, if ``title`` is the text that came with it."""
        return not self.frames and len(self.lines) < 3 and _WARN_AT.search(line) is not None

    @property
    def frames(self) -> list[str]:
        """Functions on the first stack, innermost first, without those of the checker."""
        found: list[str] = []
        for line in self.lines:
            match = _FRAME.match(line)
            if match is not None and not line.startswith(" ? "):
                found.append(match[1] + (match[2] or ""))
            elif found and not line.startswith((" ? ", " <")):
                break
        return [name for name in found if not _MACHINERY.match(name)]

    def __str__(self) -> str:
        """The title, and through which functions it came: the innermost, and the first module's."""
        frames = self.frames
        shown = frames[:_FRAMES_SHOWN]
        module = next((name for name in frames[_FRAMES_SHOWN:] if name.endswith("]")), None)
        if module and not any(name.endswith("]") for name in shown):
            shown += ["...", module] if module != frames[_FRAMES_SHOWN] else [module]
        return f"{self.title}; in {' < '.join(shown)}" if shown else self.title


#: Complaints of the kernel about its own code, whatever a driver does (docs/findings.md): what is
#: in the title, and functions that are on the stack, all of them.
_KERNELS_OWN: tuple[tuple[str, frozenset[str]], ...] = (
    # An allocation of MSI-X set-up failed: pci_free_msi_irqs() unmaps the table and forgets its
    # address, and msix_capability_init() unmaps it again.
    (" iounmap+", frozenset({"pci_alloc_irq_vectors_affinity"})),
    # A node for the index of mapped pages was not to be had at once: xa_alloc_bh() waits for one
    # with bottom halves off, for the pool's xarray is not marked XA_FLAGS_LOCK_BH.
    ("sleeping function called", frozenset({"page_pool_dma_map", "__xas_nomem"})),
    # dma_unmap_page_attrs() gives an IOVA back before DMA-API debugging forgets it: whoever maps at
    # that moment may get the same one, and a sync of a part of it fits two entries, hence none.
    ("tries to sync DMA memory it has not allocated", frozenset({"page_pool_dma_map"})),
)


def is_kernels_own(splat: Splat) -> bool:
    """Whether a complaint is known to be about the kernel's own code."""
    frames = set(splat.frames)
    return any(word in splat.title and names <= frames for word, names in _KERNELS_OWN)


def drivers_fault(splats: Sequence[Splat]) -> list[str]:
    """Those that may be a driver's fault, each with where it came from."""
    return [str(splat) for splat in splats if not is_kernels_own(splat)]


def by_checker(splats: Sequence[Splat]) -> dict[str, tuple[str, ...]]:
    """Checker to what it said, in order."""
    found: dict[str, list[str]] = {}
    for splat in splats:
        found.setdefault(splat.checker, []).append(str(splat))
    return {name: tuple(said) for name, said in found.items()}
