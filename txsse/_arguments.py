"""
Errors for arguments of the wrong type, with one wording for all public functions.
"""

from __future__ import annotations

__all__ = ["check_number", "wrong_type"]


def wrong_type(name: str, value: object, wanted: str) -> TypeError:
    """
    Return an error that names the argument, the expected type and the given one.

    :param name: the name of the argument.
    :param value: the given value. Only its type is shown: the value may contain a password.
    :param wanted: the expected kind of value, such as ``an IJournal``.
    """
    given = value.__name__ if isinstance(value, type) else type(value).__name__
    kind = "the class " if isinstance(value, type) else ""
    return TypeError(f"{name} must be {wanted}, not {kind}{given}")


def check_number(name: str, value: object, wanted: str = "a number", *, whole: bool = False) -> None:
    """
    Check that an argument is a number; a ``bool`` is refused.

    :param wanted: the expected kind of value, such as ``a number of seconds``.
    :param whole: whether it must be an ``int``.
    :raises TypeError: for anything else.
    """
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
        raise wrong_type(name, value, wanted)
