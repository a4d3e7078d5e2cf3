# SPDX-License-Identifier: MIT
"""The host's side: the Linux kernel module (``linux/``), the same driver in Python (``model/``)."""
