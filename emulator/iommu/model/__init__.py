# SPDX-License-Identifier: MIT
"""The IOMMU in virtual time: what an operation costs, what a device still reaches, and why.

Nothing in here does I/O or reads a clock: addresses and times come in, counts and times go out.
Addresses are IOVAs in bytes or page frame numbers (``pfn``, 4 KiB), times are ns.
"""
