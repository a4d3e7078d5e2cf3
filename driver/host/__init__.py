# SPDX-License-Identifier: MIT
"""The host in virtual time: its page allocator, and what its work costs the CPU."""
