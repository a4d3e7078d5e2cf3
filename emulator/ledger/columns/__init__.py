# SPDX-License-Identifier: MIT
"""The ledger in columns, for millions of events a second: what the twin is judged by.

One row for each page frame, each IOVA page and each place where a buffer can begin. The kernels
are told what happens, in the order it happens, check it against what they know, and integrate
how much memory that was no longer its own the device could reach, and for how long. Rule numbers
are those of :mod:`emulator.ledger.rules`; what they find comes out as the same
:class:`~emulator.ledger.violation.Violation`.
"""
