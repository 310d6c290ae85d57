"""The error of an image that cannot be used."""

from __future__ import annotations


class FrameError(ValueError):
    """A frame is refused.

    Args:
        reason: short stable name to count it under: ``encoding``, ``size``, ``step``, ``truncated``,
            ``layout``, ``not_finite``, ``conversion``, ``registration``, ``camera_info``, ``radiometric``, and of
            compressed images ``format`` and ``decode``.
        message: what is wrong, what is allowed and what to do.

    Attributes:
        reason: as given.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
