# SPDX-License-Identifier: MIT
"""Strategies that supply a receive queue with DMA-mapped buffers.

:mod:`pool.interface` is the one interface, :mod:`pool.registry` the list of names. A strategy
does no I/O: pages and mappings come from an injected :class:`~pool.interface.PageAllocator` and
:class:`~pool.interface.DmaApi`, so the Python driver, a simulator bench and a model in virtual
time share the code.
"""
