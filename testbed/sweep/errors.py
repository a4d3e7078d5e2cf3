# SPDX-License-Identifier: MIT
"""What can go wrong in a sweep, one named error each."""

from __future__ import annotations

from testbed.errors import TestbedError


class SweepError(TestbedError):
    """Base of the errors of this package."""


class VaryError(SweepError):
    """What is to be varied was refused; the text says why and what is allowed."""


class StoreError(SweepError):
    """The file of finished points cannot be used; the text names file and line."""


class ModelMismatchError(SweepError):
    """A worker has another version of the model, so its results would be another model's."""


class SchedulerError(SweepError):
    """The cluster cannot be reached, or what it needs is not installed."""
