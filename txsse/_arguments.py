"""
Arguments of a wrong type: what the error says.
"""

from __future__ import annotations

__all__ = ["check_number", "wrong_type"]


def wrong_type(name: str, value: object, wanted: str) -> TypeError:
    """
    Return an error that says what to write.

    :param name: the argument.
    :param value: what was given. Only its type is shown: it may hold a password.
    :param wanted: what to give.
    """
    given = value.__name__ if isinstance(value, type) else type(value).__name__
    kind = "the class " if isinstance(value, type) else ""
    return TypeError(f"{name} must be {wanted}, not {kind}{given}")


def check_number(name: str, value: object, wanted: str = "a number", *, whole: bool = False) -> None:
    """
    Check that an argument is a number, so that it can be compared; ``bool`` is none.

    :param wanted: what to give, such as ``a number of seconds``.
    :param whole: whether it must be an ``int``.
    :raises TypeError: for anything else.
    """
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
        raise wrong_type(name, value, wanted)
