# SPDX-License-Identifier: MIT
"""What a guest says of itself, told to the ledger: its checkers (O-20), its page pools (O-8)."""

from __future__ import annotations

import re
from collections.abc import Callable

from emulator.ledger.facts import Checked, PoolCounted
from testbed.guest_facts import ethtool_value
from testbed.sink import FILE as SINK
from vm.checker_files import read_checkers
from vm.checkers import CHECKERS, checkers_of
from vm.guest import Guest
from vm.page_pools import PagePool, read_page_pools
from vm.splats import Splat, by_checker, is_kernels_own

Tell = Callable[[Checked], None]
Excuse = Callable[[Splat], bool]
#: What every kernel says on its console: the name under which that is read when it is nothing.
CONSOLE = "console"
_WORD = re.compile(r"^(\w+) (\d+)$", re.M)


def tell_console(
    guest: Guest, tell: Tell, since: int = 0, harmless: Excuse = is_kernels_own
) -> list[str]:
    """Tells what the kernel complained of on its console, from splat ``since`` on; returns it.

    harmless: of such complaints nothing is told.
    """
    splats = [splat for splat in guest.console.splats[since:] if not harmless(splat)]
    for checker, problems in by_checker(splats).items():
        tell(Checked(checker, problems))
    tell(Checked(CONSOLE))
    return [str(splat) for splat in splats]


async def tell_checkers(
    guest: Guest,
    tell: Tell,
    since: int = 0,
    leaks: bool = False,
    harmless: Excuse = is_kernels_own,
) -> list[str]:
    """Tells what each checker of the guest's kernel says, and which it has not; returns the former.

    since, harmless: see :func:`tell_console`. leaks: kmemleak looks around as well, which takes
    seconds.
    """
    present = checkers_of(guest.artifacts.kernel)
    files: dict[str, tuple[str, ...]] = {}
    if present:
        files = await read_checkers(guest, leaks and "kmemleak" in present)
    said = tell_console(guest, tell, since, harmless)
    for checker in CHECKERS:
        tell(Checked(checker, files.get(checker, ()), absent=checker not in present))
    return [*said, *(f"{name}: {one}" for name, problems in files.items() for one in problems)]


async def count_pools(guest: Guest, interface: str) -> tuple[PoolCounted | None, list[PagePool]]:
    """What the pools of ``interface`` say at a quiet moment, as a fact, and each of them.

    The fact is None where the kernel does not tell, where there is no pool, or where one that its
    driver has destroyed still waits for pages: those may be mapped or not.
    """
    found = await read_page_pools(guest)
    if not found:
        return None, []
    said = await guest.run(
        f"echo index $(cat /sys/class/net/{interface}/ifindex); grep ^held_pages {SINK};"
        f" echo ring $({ethtool_value('-g', 'RX', interface)});"
        f" echo queues $({ethtool_value('-l', 'Combined', interface)})",
        check=False,
    )
    words = dict(_WORD.findall(said.stdout))
    index, held = int(words.get("index", 0)), words.get("held_pages")
    slots = int(words.get("ring", 0)) * int(words.get("queues", 0))
    pools = [pool for pool in found if pool.ifindex == index]
    if not pools or any(pool.detached for pool in pools):
        return None, pools
    cached = [pool.cached for pool in pools]
    stores = sum(n for n in cached if n is not None) if None not in cached else None
    inflight = sum(pool.inflight for pool in pools)
    known = held if stores is not None and guest.config.cpus == 1 else None
    with_stack = None if known is None else int(known)
    return PoolCounted(inflight, stores, with_stack, slots), pools
