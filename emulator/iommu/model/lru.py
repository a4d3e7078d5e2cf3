# SPDX-License-Identifier: MIT
"""An exact LRU cache of keys that takes whole batches of accesses.

An access misses if at least ``entries`` other keys were used since its key was last used (Mattson
et al., "Evaluation techniques for storage hierarchies", 1970). For most access patterns bounds
on that number decide all accesses of a batch with a handful of array operations; a batch that
they leave in doubt is stepped through, key by key. Both ways give the same answer.
"""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
from numpy.typing import NDArray

from emulator.iommu.model.errors import ModelError

Keys = NDArray[np.int64]
Mask = NDArray[np.bool_]
Positions = NDArray[np.int32]

_SMALL = 256  # below this many accesses the array operations cost more than the steps
_BLOCK = 1 << 14  # keeps the arrays of a batch within the CPU's cache
_PATIENCE = 8  # blocks to step through after one that the bounds left in doubt
_EVICTED_SCALES = (1.0, 2.0, 1.4, 4.0, 8.0)  # of the cache, most often decisive first
_KEPT_SCALES = (1 / 16, 1 / 4)
_COUNTED_PER_ACCESS = 8  # more than this to count exactly: stepping is faster
_PACKED_BITS = 62


class Lru:
    """A fully associative cache of ``entries`` keys (int64, any value), least recent out first.

    Raises:
        ModelError: ``entries`` is negative. None at all is allowed: every access misses.
    """

    def __init__(self, entries: int) -> None:
        if entries < 0:
            raise ModelError(f"a cache of {entries} entries: must not be negative")
        self.entries = entries
        # The same content, in either form; the one that is not None is the current one.
        self._stepped: OrderedDict[int, None] | None = OrderedDict()
        self._array: Keys | None = None
        self._steps_left = 0

    def __len__(self) -> int:
        held = self._stepped if self._stepped is not None else self._array
        return 0 if held is None else len(held)

    def keys(self) -> Keys:
        """What is cached, least recently used first."""
        if self._array is None:
            held = self._stepped or ()
            return np.fromiter(held, np.int64, len(held))
        return self._array

    def access(self, keys: Keys) -> Mask:
        """Uses ``keys`` (shape (n,)) in order; True (shape (n,)) where an access missed."""
        misses = np.zeros(len(keys), np.bool_)
        if not self.entries:
            misses[:] = True
            return misses
        if len(keys) < _SMALL:
            misses[self._step(keys)] = True
            return misses
        starts = _run_starts(keys)
        for begin in range(0, len(starts), _BLOCK):
            where = starts[begin : begin + _BLOCK]
            misses[where] = self._access_block(keys[where])
        return misses

    def invalidate(self, keys: Keys) -> int:
        """Forgets ``keys``; the number that were cached."""
        before = len(self)
        if self._stepped is not None:
            forget = self._stepped.pop
            for key in set(keys.tolist()):
                forget(key, None)
        else:
            held = self.keys()
            self._array = held[~np.isin(held, keys)]
        return before - len(self)

    def clear(self) -> None:
        """Forgets everything."""
        self._stepped, self._array = OrderedDict(), None

    def _access_block(self, keys: Keys) -> Mask:
        if self._steps_left:
            self._steps_left -= 1
        elif (decided := self._decide(keys)) is not None:
            return decided
        else:
            self._steps_left = _PATIENCE
        misses = np.zeros(len(keys), np.bool_)
        misses[self._step(keys)] = True
        return misses

    def _step(self, keys: Keys) -> list[int]:
        """Positions that missed, found key by key."""
        if self._stepped is None:
            self._stepped, self._array = OrderedDict.fromkeys(self.keys().tolist()), None
        held = self._stepped
        refresh, evict, room = held.move_to_end, held.popitem, self.entries - len(held)
        missed: list[int] = []
        latest: int | None = None
        for position, key in enumerate(keys.tolist()):
            if key == latest:
                continue
            latest = key
            if key in held:
                refresh(key)
                continue
            missed.append(position)
            held[key] = None
            if room:
                room -= 1
            else:
                evict(last=False)
        return missed

    def _decide(self, keys: Keys) -> Mask | None:
        """Where ``keys`` miss, or None if stepping is cheaper.

        The content of the cache is what accessing it in order would have left, so it is put
        before the batch and the whole is judged as one sequence into an empty cache.
        """
        held = self.keys()
        sequence = np.concatenate((held, keys))
        neighbours = _neighbours(sequence)
        if neighbours is None:
            return None
        misses = _misses(*neighbours, len(held), self.entries)
        if misses is None:
            return None
        last_use = neighbours[1] == len(sequence)
        self._array, self._stepped = sequence[last_use][-self.entries :], None
        return misses[len(held) :]


def _run_starts(keys: Keys) -> NDArray[np.intp]:
    """Positions whose key differs from the one before: the others hit for certain."""
    first = np.empty(len(keys), np.bool_)
    first[0] = True
    np.not_equal(keys[1:], keys[:-1], out=first[1:])
    return np.flatnonzero(first)


def _neighbours(sequence: Keys) -> tuple[Positions, Positions] | None:
    """The position of the previous (-1: none) and next (length: none) use of each key.

    None if the keys are so far apart that key and position do not fit into one integer.
    """
    length = len(sequence)
    low, position_bits = int(sequence.min()), length.bit_length()
    if (int(sequence.max()) - low).bit_length() + position_bits > _PACKED_BITS:
        return None
    packed = sequence - low
    packed <<= position_bits
    packed |= np.arange(length)
    packed.sort()
    where = (packed & ((1 << position_bits) - 1)).astype(np.int32)
    packed >>= position_bits
    same = packed[1:] == packed[:-1]
    previous, following = np.empty(length, np.int32), np.empty(length, np.int32)
    previous[where[0]], following[where[-1]] = -1, length
    previous[where[1:]] = np.where(same, where[:-1], np.int32(-1))
    following[where[:-1]] = np.where(same, where[1:], np.int32(length))
    return previous, following


def _misses(previous: Positions, following: Positions, held: int, entries: int) -> Mask | None:
    """Where a sequence into an empty cache misses; the first ``held`` positions are its past."""
    cold = previous < 0
    if np.count_nonzero(cold) <= entries:
        return cold
    length = len(previous)
    gap = np.arange(length, dtype=np.int32) - previous
    gap[cold] = length + 1
    doubt = np.flatnonzero((gap > entries) & ~cold)
    if np.count_nonzero(previous[held:] < held) <= entries:
        # The batch fits: what it used itself, it still has.
        doubt = doubt[previous[doubt] < held]
    doubt = _drop_kept(gap, doubt, entries)
    doubt = _mark_evicted(gap, doubt, entries, misses := cold.copy())
    if int(gap[doubt].sum()) > _COUNTED_PER_ACCESS * length:
        return None
    if doubt.size:
        misses[doubt] = _distinct_between(previous, following, doubt) >= entries
    return misses


def _drop_kept(gap: Positions, doubt: NDArray[np.intp], entries: int) -> NDArray[np.intp]:
    """Returns ``doubt`` without the accesses that hit for certain.

    Of the accesses since a key was last used, those more than G positions later whose own key
    was used G or fewer positions before repeat one in between: all others are too few.
    """
    for scale in _KEPT_SCALES:
        if not doubt.size:
            break
        near = int(scale * entries) + 1
        counted = np.cumsum(gap > near, dtype=np.int32)
        last_use = doubt - gap[doubt]
        # A gap is longer than the cache, so its end lies past the first G positions.
        others = near + counted[doubt - 1] - counted[np.minimum(last_use + near, doubt - 1)]
        doubt = doubt[others >= entries]
    return doubt


def _mark_evicted(
    gap: Positions, doubt: NDArray[np.intp], entries: int, misses: Mask
) -> NDArray[np.intp]:
    """Marks in ``misses`` those of ``doubt`` that miss for certain; returns the others.

    Within fewer than G positions, accesses whose key was last used G or more positions before
    are all of different keys: enough of them inside the gap of an access have evicted its key.
    """
    for scale in _EVICTED_SCALES:
        if not doubt.size:
            break
        reach = int(scale * entries) + 1
        counted = np.cumsum(gap >= reach, dtype=np.int32)
        wide = gap[doubt] >= reach
        # A gap below the reach may point before the sequence; 'wide' discards what that reads.
        inside = counted[doubt - 1] - counted[np.maximum(doubt - reach, 0)]
        evicted = wide & (inside >= entries)
        misses[doubt[evicted]] = True
        doubt = doubt[~evicted]
    return doubt


def _distinct_between(previous: Positions, following: Positions, where: NDArray[np.intp]) -> Keys:
    """How many different keys were used between each of ``where`` and the last use of its key."""
    lengths = where - previous[where] - 1
    ends = np.cumsum(lengths)
    within = np.arange(int(ends[-1])) - np.repeat(ends - lengths, lengths)
    position = np.repeat(previous[where] + 1, lengths) + within
    final_use = following[position] >= np.repeat(where, lengths)
    distinct: Keys = np.add.reduceat(final_use, ends - lengths, dtype=np.int64)
    return distinct
