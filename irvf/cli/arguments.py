"""Types of arguments that several commands take."""

from __future__ import annotations

import argparse


def image_size(text: str) -> tuple[int, int]:
    """Return width and height of ``WIDTHxHEIGHT``.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    width, cross, height = text.partition("x")
    if not (cross and width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise argparse.ArgumentTypeError(f"{text!r} must be WIDTHxHEIGHT in pixels, e.g. 640x480")
    return int(width), int(height)


def set_and_name(text: str) -> tuple[str, str]:
    """Return set and pair of ``SET=NAME``.

    Raises:
        ValueError: it is none.
    """
    dataset, equals, name = text.partition("=")
    if not (dataset and equals and name):
        raise ValueError(f"--from {text!r} must be SET=NAME, the first pair of a set that counts")
    return dataset, name
