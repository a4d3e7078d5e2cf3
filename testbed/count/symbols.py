# SPDX-License-Identifier: MIT
"""The guest's symbols: which function, of which module, an address belongs to."""

from __future__ import annotations

import bisect
from collections.abc import Iterable
from dataclasses import dataclass

from testbed.errors import TestbedError

_CODE = frozenset("tTwW")


@dataclass(frozen=True, slots=True)
class Symbol:
    """A function: its address, its name, the module it is in ("" for the kernel itself)."""

    address: int
    name: str
    module: str


class SymbolTable:
    """The functions of one running kernel.

    Raises:
        TestbedError: there are no addresses in the text; the guest hides them from its reader.
    """

    def __init__(self, symbols: Iterable[Symbol]) -> None:
        self._symbols = sorted(symbols, key=lambda symbol: symbol.address)
        self._addresses = [symbol.address for symbol in self._symbols]
        if not self._addresses or not self._addresses[-1]:
            raise TestbedError("/proc/kallsyms shows no addresses: kernel.kptr_restrict is not 0")

    def at(self, address: int) -> Symbol:
        """The function that ``address`` lies in; one without a name before the first."""
        index = bisect.bisect_right(self._addresses, address) - 1
        return self._symbols[index] if index >= 0 else Symbol(0, "?", "")

    def addresses(self, name: str) -> list[int]:
        """Where functions of that name begin: static functions may share one."""
        return [symbol.address for symbol in self._symbols if symbol.name == name]


def parse_kallsyms(text: str) -> SymbolTable:
    """The functions in the text of /proc/kallsyms; of several names for an address the first."""
    seen: dict[int, Symbol] = {}
    for line in text.splitlines():
        address, kind, name, *module = line.split()
        if kind in _CODE:
            symbol = Symbol(int(address, 16), name, module[0].strip("[]") if module else "")
            seen.setdefault(symbol.address, symbol)
    return SymbolTable(seen.values())
