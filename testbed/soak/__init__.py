# SPDX-License-Identifier: MIT
"""The soak: millions of packets while everything about the driver changes; nobody may be blamed."""
