# SPDX-License-Identifier: MIT
"""From results to what people read: tables, a verdict in words, plots, one HTML file."""
