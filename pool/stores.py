# SPDX-License-Identifier: MIT
"""Where buffers wait: a stack and a queue of int64 in arrays that never grow.

Both are as large as what can ever be in them, which whoever makes one has to know: compiled code
does not check.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from emulator.kernel import Ints, kernel

COUNT, OLDEST = 0, 1
"""Places in ``at``: how many there are; a queue's place of the oldest."""


class Stack(NamedTuple):
    """Last in, first out. at: int64[1]; items: int64[capacity], the topmost last."""

    at: Ints
    items: Ints


class Queue(NamedTuple):
    """Taken from at either end. at: int64[2]; items: int64[capacity], which wraps around."""

    at: Ints
    items: Ints


def make_stack(capacity: int) -> Stack:
    """An empty stack."""
    return Stack(np.zeros(1, np.int64), np.zeros(capacity, np.int64))


def make_queue(capacity: int) -> Queue:
    """An empty queue."""
    return Queue(np.zeros(2, np.int64), np.zeros(capacity, np.int64))


@kernel
def count(store: Stack | Queue) -> int:
    """How many there are."""
    return store.at[COUNT]


@kernel
def room(store: Stack | Queue) -> int:
    """How many more there may be."""
    return len(store.items) - store.at[COUNT]


@kernel
def push(stack: Stack, item: int) -> None:
    """Puts it on top; there must be room."""
    stack.items[stack.at[COUNT]] = item
    stack.at[COUNT] += 1


@kernel
def pop(stack: Stack) -> int:
    """Takes the topmost; there must be one."""
    stack.at[COUNT] -= 1
    return stack.items[stack.at[COUNT]]


@kernel
def append(queue: Queue, item: int) -> None:
    """Makes it the newest; there must be room."""
    queue.items[_place(queue, queue.at[COUNT])] = item
    queue.at[COUNT] += 1


@kernel
def oldest(queue: Queue) -> int:
    """The oldest, which stays; there must be one."""
    return queue.items[queue.at[OLDEST]]


@kernel
def take_oldest(queue: Queue) -> int:
    """Takes the oldest; there must be one."""
    item = queue.items[queue.at[OLDEST]]
    queue.at[OLDEST] = _place(queue, 1)
    queue.at[COUNT] -= 1
    return item


@kernel
def take_newest(queue: Queue) -> int:
    """Takes the newest; there must be one."""
    queue.at[COUNT] -= 1
    return queue.items[_place(queue, queue.at[COUNT])]


@kernel
def _place(queue: Queue, number: int) -> int:
    """Of the entry so many behind the oldest. A comparison: a division costs more than the rest."""
    place = queue.at[OLDEST] + number
    return place - len(queue.items) if place >= len(queue.items) else place
