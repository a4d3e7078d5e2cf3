# SPDX-License-Identifier: MIT
"""What a strategy promises about the device's reach, as data that tests and judges use.

Every field answers "may the device reach more than the buffers that are posted to it?" for one
place a page can be. ``False`` is the safe answer in all of them but :attr:`unmapped_by_close`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Guarantees:
    """The promises of one strategy, or of one pool where its options matter."""

    mapped_while_read: bool = False
    """A received buffer may still be reachable while the stack reads it."""
    mapped_in_store: bool = False
    """A page that nobody has borrowed, kept by the pool, may be mapped."""
    mapped_when_free: bool = False
    """A page may be mapped although the page allocator has it again, for any other use."""
    mapped_after_close: bool = False
    """Mappings may outlive the pool: somebody else ends them."""
    shares_mapping: bool = False
    """A buffer's page or block may hold other buffers: their owners' bytes are reachable too."""
    reaches_everything: bool = False
    """All memory is mapped, also what was never part of any buffer."""
    unmapped_by_close: bool = False
    """``close()`` ends the mappings of pages that are still out (safe when true)."""
