# SPDX-License-Identifier: MIT
"""The serial queue of map and unmap operations: one at a time, in order, each with its delay.

Our reply to DMA_UNMAP is the completion of an invalidation, so it stands at the end of the modelled
time, right after the mapping went. Operations wait for those before them, as in the invalidation
queue of an IOMMU; a client that pipelines them waits for the last reply only and relies on the
order.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

from emulator.errors import DmabedError


class DmaOperation(Protocol):
    """A map or unmap on its way. A reply is a whole message, or None if the client wants none."""

    def start(self, now_ns: int) -> int:
        """Begins; returns the ns it takes. Raises DmabedError to refuse."""
        ...

    def finish(self, now_ns: int) -> bytes | None:
        """Completes; returns the reply."""
        ...

    def refusal(self, error: DmabedError) -> bytes | None:
        """The reply if it was refused."""
        ...

    def drop(self) -> None:
        """Never started and never will: gives up what it holds."""
        ...


class DmaQueue:
    """Operations in order of arrival. One is running; at ``due_ns`` it will be complete."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[DmaOperation, int]] = deque()
        self._running: DmaOperation | None = None
        self.due_ns: int | None = None

    @property
    def busy(self) -> bool:
        """An operation is running; a new one has to wait."""
        return self._running is not None

    def run(self, operation: DmaOperation, due_ns: int) -> None:
        """Takes an operation that its caller has started, while the queue is not busy."""
        self._running, self.due_ns = operation, due_ns

    def wait(self, operation: DmaOperation, now_ns: int) -> None:
        """Takes an operation that arrived at ``now_ns``, while the queue is busy."""
        self._waiting.append((operation, now_ns))

    def poll(self, now_ns: int) -> list[bytes]:
        """Completes what is due and starts what follows; returns the replies, in order.

        What follows is timed from when the one before was due, not from when this was called, so
        that a late call does not stretch the model; the operations are told the real time.
        """
        replies: list[bytes | None] = []
        while self._running is not None and self.due_ns is not None and self.due_ns <= now_ns:
            replies.append(self._finish(self._running, now_ns))
            free_ns, self._running, self.due_ns = self.due_ns, None, None
            self._start_next(free_ns, now_ns, replies)
        return [reply for reply in replies if reply is not None]

    def _finish(self, operation: DmaOperation, now_ns: int) -> bytes | None:
        try:
            return operation.finish(now_ns)
        except DmabedError as error:
            return operation.refusal(error)

    def _start_next(self, free_ns: int, now_ns: int, replies: list[bytes | None]) -> None:
        """Starts the first that is not refused; a refusal takes no time."""
        while self._waiting and self._running is None:
            operation, arrived_ns = self._waiting.popleft()
            try:
                delay_ns = operation.start(now_ns)
            except DmabedError as error:
                replies.append(operation.refusal(error))
            else:
                self.run(operation, max(free_ns, arrived_ns) + delay_ns)

    def discard(self) -> None:
        """Forgets everything; what never started gives up what it holds."""
        for operation, _ in self._waiting:
            operation.drop()
        self._waiting.clear()
        self._running, self.due_ns = None, None
