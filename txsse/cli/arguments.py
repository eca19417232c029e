"""
Parse arguments that several commands share: positive numbers, URLs and header fields.

Every user of the machine can see a command line. URLs and header fields with secrets are therefore refused
there, and read from files instead.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit, urlunsplit

from txsse._redact import holds_secret
from txsse.client.response import parse_url
from txsse.web.body import BodyTooLarge, read_content

__all__ = ["path_below", "positive", "read_headers", "read_url"]

# Names of header fields with secret values, such as Authorization, Cookie and X-Api-Key.
_SECRET_HEADER = re.compile(r"authorization|cookie|token|secret|passw|api[_-]?key|credential", re.IGNORECASE)

N = TypeVar("N", int, float)

# The largest file with a URL or header fields, in bytes: servers refuse longer ones.
_MAX_SIZE = 65536


def positive(kind: Callable[[str], N]) -> Callable[[str], N]:
    """
    Return an argparse ``type`` for finite numbers above 0.

    :param kind: ``int`` or ``float``.
    """

    def convert(text: str) -> N:
        value = kind(text)
        if not 0 < value < float("inf"):
            raise ValueError
        return value

    # argparse names the type in its error.
    convert.__name__ = "positive number"
    return convert


def read_url(argument: str) -> str:
    """
    Return a URL given on the command line or, as ``@FILE``, in a file; unchanged.

    :raises ValueError: if it is not an HTTP URL, or contains a secret and is on the command line.
    """
    url = _read(argument[1:]).strip() if argument.startswith("@") else argument
    parse_url(url)
    if url is argument and holds_secret(url):
        raise ValueError(
            "every user of the machine can see the token in this URL; put the URL into a file, and give @FILE"
        )
    return url


def path_below(url: str, name: str) -> str:
    """
    Return the URL of a path below a hub's.
    """
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{name}"))


def read_headers(arguments: Iterable[str]) -> dict[str, str]:
    """
    Return header fields given as ``NAME:VALUE`` or, as ``@FILE``, one on each line of a file.

    :raises ValueError: if one is not a header field, or contains a secret and is on the command line.
    """
    headers = {}
    for argument in arguments:
        for line in _lines(argument):
            name, colon, value = line.partition(":")
            if not colon or not name.strip():
                # The error does not show the text: it may be a secret without its name.
                raise ValueError("--header needs NAME:VALUE")
            if line is argument and _SECRET_HEADER.search(name):
                raise ValueError(
                    f"every user of the machine can see the value of --header {name.strip()}; put the line "
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
        raise ValueError(f"{path}: it is not UTF-8 text") from None
