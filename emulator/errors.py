# SPDX-License-Identifier: MIT
"""The root of every error this project raises by name."""


class DmabedError(Exception):
    """Base of all named errors: the message says what was wrong, where, and what to do about it.

    Each module derives its own errors from this one; callers that only want to tell "this project
    refused" from "a bug" catch this class.
    """
