"""
Arguments of several commands: positive numbers, and what may hold a secret, with the files that it can be
read from instead.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from txsse._redact import holds_secret
from txsse.client.response import parse_url
from txsse.web.body import BodyTooLarge, read_content

__all__ = ["positive", "read_headers", "read_url"]

# Header fields whose values are secrets, such as Authorization, Cookie and X-Api-Key.
_SECRET_HEADER = re.compile(r"authorization|cookie|token|secret|passw|api[_-]?key|credential", re.IGNORECASE)

N = TypeVar("N", int, float)

# More than any header field or URL has, in bytes: servers refuse longer ones.
_MAX_SIZE = 65536


def positive(kind: Callable[[str], N]) -> Callable[[str], N]:
    """
    Return a ``type`` of argparse for finite numbers above 0.

    :param kind: ``int`` or ``float``.
    """

    def convert(text: str) -> N:
        value = kind(text)
        if not 0 < value < float("inf"):
            raise ValueError
        return value

    # argparse names it in its error.
    convert.__name__ = "positive number"
    return convert


def read_url(argument: str) -> str:
    """
    Return a URL that stands on the command line, or, for ``@FILE``, in a file; as it is written there.

    :raises ValueError: for one that is no URL of HTTP, and for one on the command line that holds a secret.
    """
    url = _read(argument[1:]).strip() if argument.startswith("@") else argument
    parse_url(url)
    if url is argument and holds_secret(url):
        raise ValueError(
            "every user of the machine can see the token in this URL; put the URL into a file, and give @FILE"
        )
    return url


def read_headers(arguments: Iterable[str]) -> dict[str, str]:
    """
    Return header fields that stand on the command line, as ``NAME:VALUE``, or, for ``@FILE``, on the lines of
    a file.

    :raises ValueError: for what is no header field, and for one on the command line that holds a secret.
    """
    headers = {}
    for argument in arguments:
        for line in _lines(argument):
            name, colon, value = line.partition(":")
            if not colon or not name.strip():
                # What it holds is not shown: it may be a secret without its name.
                raise ValueError("--header holds no NAME:VALUE")
            if line is argument and _SECRET_HEADER.search(name):
                raise ValueError(
                    f"every user of the machine can see what --header {name.strip()} holds; put the line "
                    "into a file, and give --header @FILE"
                )
            headers[name.strip()] = value.strip()
    return headers


def _lines(argument: str) -> Iterator[str]:
    if not argument.startswith("@"):
        yield argument
        return
    for line in _read(argument[1:]).split("\n"):
        if line.strip():
            yield line


def _read(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            return read_content(file, _MAX_SIZE).decode()
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None
    except BodyTooLarge as error:
        raise ValueError(f"{path}: {error}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path}: it is no text in UTF-8") from None
