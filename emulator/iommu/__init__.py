# SPDX-License-Identifier: MIT
"""What a device can reach: its address space, DMA through it, and what changing it costs."""
