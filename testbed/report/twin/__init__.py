# SPDX-License-Identifier: MIT
"""What the twin's results look like: tables, CSV, figures, one HTML page."""
