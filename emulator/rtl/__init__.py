# SPDX-License-Identifier: MIT
"""The NIC's DMA side in SystemVerilog, and what is needed to run it: see docs/rtl.md."""
