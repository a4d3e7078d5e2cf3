# SPDX-License-Identifier: MIT
"""The page pools of a guest's kernel, as its netlink family ``netdev`` tells of them.

Numbers of commands and attributes are those of Documentation/netlink/specs/netdev.yaml of Linux
(6.8 or newer): page-pool-get, and page-pool-stats-get, which needs CONFIG_PAGE_POOL_STATS. The
guest's agent asks (``genl``, vm/agent/genl.c) and prints the attributes of each answer in
hexadecimal.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from vm.errors import ProtocolError
from vm.guest import Guest

_FAMILY, _GET, _STATS_GET = "netdev", 5, 9
_ID, _IFINDEX, _INFLIGHT, _DETACH_TIME = 1, 2, 4, 6
_INFO = 1
_STATS = {
    8: "alloc_fast", 9: "alloc_slow", 10: "alloc_slow_high_order", 12: "alloc_refill",
    14: "recycle_cached", 16: "recycle_ring", 17: "recycle_ring_full",
    18: "recycle_released_refcnt",
}  # fmt: skip
_HEADER = 4
_TYPE_MASK = 0x3FFF
_ASK = f"genl {_FAMILY} {_GET} && echo -- && {{ genl {_FAMILY} {_STATS_GET} 2>/dev/null; true; }}"


@dataclass(frozen=True, slots=True)
class PagePool:
    """One pool; what it counts are pages.

    inflight: taken from the page allocator and not given back: with the driver, with the stack, or
    in the pool's own stores. detached: its driver has destroyed it, and it waits for its pages.
    out: of inflight, those that are not in the stores; None without CONFIG_PAGE_POOL_STATS.
    """

    number: int
    ifindex: int
    inflight: int
    detached: bool
    out: int | None = None

    @property
    def cached(self) -> int | None:
        """Pages in the pool's own stores."""
        return None if self.out is None else self.inflight - self.out


async def read_page_pools(guest: Guest) -> list[PagePool] | None:
    """All pools of the guest; None: its kernel does not tell (before 6.8)."""
    said = await guest.run(_ASK, check=False)
    return parse_pools(said.stdout) if said.status == 0 else None


def parse_pools(text: str) -> list[PagePool]:
    """Pools in the answers to page-pool-get, then a line ``--``, then to page-pool-stats-get.

    Raises:
        ProtocolError: that is no list of netlink attributes.
    """
    first, _, second = text.partition("--\n")
    out = dict(map(_pages_out, _messages(second)))
    pools = []
    for message in _messages(first):
        found = {kind: int.from_bytes(value, "little") for kind, value in message.items()}
        pools.append(
            PagePool(
                number=found[_ID],
                ifindex=found.get(_IFINDEX, 0),
                inflight=found[_INFLIGHT],
                detached=_DETACH_TIME in found,
                out=out.get(found[_ID]),
            )
        )
    return pools


def _pages_out(message: dict[int, bytes]) -> tuple[int, int]:
    """A pool's number, and how many pages it has handed out and not got back.

    Every page handed out is counted once: taken from the cache (fast), from the ring (refill) or
    from the page allocator (slow). A page that comes back is kept in cache or ring, or released
    because the ring was full or somebody else held it (net/core/page_pool.c).
    """
    number = int.from_bytes(attributes(message[_INFO])[_ID], "little")
    stats = {
        name: int.from_bytes(message[kind], "little")
        for kind, name in _STATS.items()
        if kind in message
    }
    taken = sum(count for name, count in stats.items() if name.startswith("alloc_"))
    return number, taken - sum(
        count for name, count in stats.items() if name.startswith("recycle_")
    )


def _messages(text: str) -> list[dict[int, bytes]]:
    lines = text.split()
    if not all(re.fullmatch(r"(?:[0-9a-f]{2})+", line) for line in lines):
        raise ProtocolError(f"the guest's genl printed no hexadecimal digits: {text[:80]!r}")
    return [attributes(bytes.fromhex(line)) for line in lines]


def attributes(data: bytes) -> dict[int, bytes]:
    """Netlink attributes (struct nlattr: u16 length with header, u16 type) by type.

    Raises:
        ProtocolError: a length does not fit.
    """
    found: dict[int, bytes] = {}
    place = 0
    while place + _HEADER <= len(data):
        length = int.from_bytes(data[place : place + 2], "little")
        if not _HEADER <= length <= len(data) - place:
            raise ProtocolError(f"a netlink attribute of {length} bytes at byte {place}")
        kind = int.from_bytes(data[place + 2 : place + 4], "little") & _TYPE_MASK
        found[kind] = data[place + _HEADER : place + length]
        place += (length + 3) & ~3
    return found
