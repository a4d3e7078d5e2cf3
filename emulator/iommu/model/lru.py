# SPDX-License-Identifier: MIT
"""Exact LRU caches of keys: a number of sets side by side, each with its own entries.

A hash table with chained entries finds a key, a list through the same entries keeps their order of
use: an access costs the same whether it hits or misses, and however large the set is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from emulator.iommu.model.errors import ModelError
from emulator.kernel import Bytes, Ints, compiled, kernel

Keys = NDArray[np.int64]
Mask = NDArray[np.bool_]

ENTRIES, HELD, USED, SPARE, NEWEST, OLDEST, FIRST, BUCKETS, BUCKET_MASK, SETS = range(10)
"""Places in a row of ``sets``; SPARE begins a list of rows that were forgotten; SETS, in the first
row: how many sets there are, for the arrays may have room for more."""
KEY, NEWER, OLDER, CHAIN = range(4)
"""Places in a row of ``rows``. Row 0 is none, so that arrays of 0 are empty caches."""


class LruSets(NamedTuple):
    """sets: int64[sets, 10]; rows: int64[entries + 1, 4]; buckets: int64[an entry or more]."""

    sets: Ints
    rows: Ints
    buckets: Ints


def make_sets(entries: Sequence[int], room: tuple[int, int] = (1, 0)) -> LruSets:
    """Empty sets of so many entries each; of a set without entries every access misses.

    room: sets and entries for which the arrays are made at least.

    Raises:
        ModelError: a negative number of entries.
    """
    sets = np.zeros((max(len(entries), room[0]), 10), np.int64)
    sets[0, SETS] = len(entries)
    rows = buckets = 0
    for number, size in enumerate(entries):
        if size < 0:
            raise ModelError(f"a cache of {size} entries: must not be negative")
        width = 2 << size.bit_length()
        sets[number, [ENTRIES, FIRST, BUCKETS, BUCKET_MASK]] = size, rows + 1, buckets, width - 1
        rows, buckets = rows + size, buckets + width
    rows, buckets = max(rows, room[1]), max(buckets, 4 * room[1], 1)
    return LruSets(sets, np.zeros((rows + 1, 4), np.int64), np.zeros(buckets, np.int64))


@kernel
def use(lru: LruSets, which: int, key: int) -> bool:
    """Uses ``key`` in set ``which``, evicting the oldest if there is no room; True: it missed."""
    sets, rows, buckets = lru.sets, lru.rows, lru.buckets
    if sets[which, ENTRIES] == 0:
        return True
    bucket = _bucket(sets, which, key)
    row = buckets[bucket]
    while row != 0 and rows[row, KEY] != key:
        row = rows[row, CHAIN]
    missed = row == 0
    if missed:
        row = _new_row(lru, which)
        rows[row, KEY] = key
        rows[row, CHAIN] = buckets[bucket]
        buckets[bucket] = row
    elif row == sets[which, NEWEST]:
        return False
    else:
        _unlink(sets, rows, which, row)
    _link_newest(sets, rows, which, row)
    return missed


@kernel
def forget(lru: LruSets, which: int, key: int) -> int:
    """Forgets ``key`` in set ``which``; 1: it was there."""
    sets, rows, buckets = lru.sets, lru.rows, lru.buckets
    row = buckets[_bucket(sets, which, key)]
    while row != 0 and rows[row, KEY] != key:
        row = rows[row, CHAIN]
    if row == 0:
        return 0
    _unlink(sets, rows, which, row)
    _unchain(lru, which, row)
    rows[row, CHAIN] = sets[which, SPARE]
    sets[which, SPARE] = row
    sets[which, HELD] -= 1
    return 1


@kernel
def clear(lru: LruSets, which: int) -> None:
    """Forgets everything in set ``which``."""
    sets, rows = lru.sets, lru.rows
    row = sets[which, NEWEST]
    while row != 0:
        lru.buckets[_bucket(sets, which, rows[row, KEY])] = 0
        row = rows[row, OLDER]
    sets[which, HELD] = 0
    sets[which, USED] = 0
    sets[which, SPARE] = 0
    sets[which, NEWEST] = 0
    sets[which, OLDEST] = 0


@kernel
def _bucket(sets: Ints, which: int, key: int) -> int:
    """Neighbouring keys go to different buckets, and so do those a power of 2 apart."""
    mixed = key ^ (key >> 7) ^ (key >> 16) ^ (key >> 31) ^ (key >> 47)
    return sets[which, BUCKETS] + (mixed & sets[which, BUCKET_MASK])


@kernel
def _new_row(lru: LruSets, which: int) -> int:
    sets = lru.sets
    if sets[which, HELD] == sets[which, ENTRIES]:
        row = sets[which, OLDEST]
        _unlink(sets, lru.rows, which, row)
        _unchain(lru, which, row)
        return row
    sets[which, HELD] += 1
    row = sets[which, SPARE]
    if row != 0:
        sets[which, SPARE] = lru.rows[row, CHAIN]
        return row
    row = sets[which, FIRST] + sets[which, USED]
    sets[which, USED] += 1
    return row


@kernel
def _unchain(lru: LruSets, which: int, row: int) -> None:
    rows, buckets = lru.rows, lru.buckets
    bucket = _bucket(lru.sets, which, rows[row, KEY])
    other = buckets[bucket]
    if other == row:
        buckets[bucket] = rows[row, CHAIN]
        return
    while rows[other, CHAIN] != row:
        other = rows[other, CHAIN]
    rows[other, CHAIN] = rows[row, CHAIN]


@kernel
def _link_newest(sets: Ints, rows: Ints, which: int, row: int) -> None:
    newest = sets[which, NEWEST]
    rows[row, NEWER] = 0
    rows[row, OLDER] = newest
    if newest != 0:
        rows[newest, NEWER] = row
    else:
        sets[which, OLDEST] = row
    sets[which, NEWEST] = row


@kernel
def _unlink(sets: Ints, rows: Ints, which: int, row: int) -> None:
    newer, older = rows[row, NEWER], rows[row, OLDER]
    if newer != 0:
        rows[newer, OLDER] = older
    else:
        sets[which, NEWEST] = older
    if older != 0:
        rows[older, NEWER] = newer
    else:
        sets[which, OLDEST] = newer


@compiled
def _use_all(lru: LruSets, which: Ints, keys: Ints, missed: Bytes) -> None:
    for i in range(len(keys)):
        missed[i] = use(lru, which[i], keys[i])


@compiled
def _forget_all(lru: LruSets, which: Ints, keys: Ints) -> int:
    gone = 0
    for i in range(len(keys)):
        gone += forget(lru, which[i], keys[i])
    return gone


class SetAssociative:
    """A cache of ``entries`` in sets of ``ways``, LRU within a set; ``ways`` 0: one set of all.

    Keys are int64 of any value, int64[n] at a time.

    Raises:
        ModelError: ``entries`` is negative or not a multiple of ``ways``.
    """

    def __init__(self, entries: int, ways: int = 0) -> None:
        self.entries = entries
        self.lru = make_sets(sizes_of_sets(entries, ways))

    def __len__(self) -> int:
        return int(self.lru.sets[:, HELD].sum())

    def access(self, keys: Keys, index: Keys | None = None) -> Mask:
        """Uses ``keys`` in order, each in the set ``index`` (default: the key); True: missed."""
        missed = np.zeros(len(keys), np.int8)
        _use_all(self.lru, self._sets(keys if index is None else index), _plain(keys), missed)
        return missed.astype(np.bool_)

    def invalidate(self, keys: Keys, index: Keys | None = None) -> int:
        """Forgets ``keys``, each in its set; the number that were cached."""
        return _forget_all(self.lru, self._sets(keys if index is None else index), _plain(keys))

    def clear(self) -> None:
        """Forgets everything."""
        for number in range(len(self.lru.sets)):
            clear(self.lru, number)

    def _sets(self, index: Keys) -> Keys:
        return _plain(index % len(self.lru.sets))


class Lru(SetAssociative):
    """A fully associative cache of ``entries`` keys, least recent out first."""

    def __init__(self, entries: int) -> None:
        super().__init__(entries)

    def keys(self) -> Keys:
        """What is cached, least recently used first."""
        held, row = [], self.lru.sets[0, OLDEST]
        while row:
            held.append(self.lru.rows[row, KEY])
            row = self.lru.rows[row, NEWER]
        return np.array(held, np.int64)


def sizes_of_sets(entries: int, ways: int) -> list[int]:
    """Entries of each set.

    Raises:
        ModelError: they cannot be ``entries`` in all.
    """
    if ways < 0 or (ways and entries % ways):
        raise ModelError(f"{entries} entries in sets of {ways}: must divide evenly")
    return [ways] * (entries // ways) if ways and entries else [entries]


def _plain(keys: Keys) -> Keys:
    return np.ascontiguousarray(keys, np.int64)
