"""Types for the command lines of the scripts that prepare data: argparse names the argument beside what they raise."""

from argparse import ArgumentTypeError
from pathlib import Path


def at_least_one(text: str) -> int:
    """Returns a whole number of at least 1."""
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise ArgumentTypeError(f"'{text}' is not a whole number of at least 1")
    return int(text)


def existing_file(text: str) -> Path:
    """Returns the path of a file that is there."""
    if not Path(text).is_file():
        raise ArgumentTypeError(f"there is no file '{text}'")
    return Path(text)


def existing_folder(text: str) -> Path:
    """Returns the path of a folder that is there."""
    if not Path(text).is_dir():
        raise ArgumentTypeError(f"there is no folder '{text}'")
    return Path(text)


def folder_to_make(text: str) -> Path:
    """Returns the path of a folder, there or not."""
    if Path(text).exists() and not Path(text).is_dir():
        raise ArgumentTypeError(f"'{text}' is a file; name a folder")
    return Path(text)
