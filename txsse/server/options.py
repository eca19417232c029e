"""
Checks of the options of :class:`txsse.Upgrader`, and their conversion to the values that are used.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence

from txsse._arguments import check_number, wrong_type
from txsse.server.negotiation import Rules
from txsse.server.request import KeptHeaders
from txsse.web.origin import parse_origin

__all__ = ["OwnHeaders", "seconds", "to_headers", "to_kept_headers", "to_rules"]

OwnHeaders = Sequence[tuple[bytes, bytes | None]]


def to_headers(headers: Mapping[str, str | None]) -> OwnHeaders:
    """
    Return the response headers of the application as bytes.

    :raises ValueError: for an invalid name or value.
    """
    if not isinstance(headers, Mapping):
        raise wrong_type("headers", headers, "a dict, such as {'X-Name': 'value'}")
    for name, value in headers.items():
        if not isinstance(name, str) or not isinstance(value, str | None):
            raise wrong_type("headers", name if isinstance(value, str | None) else value, "a dict of str")
        if not _TOKEN.fullmatch(name):
            raise ValueError(f"headers: {name!r} is not a valid header name")
        if value is not None and any(character in value for character in "\r\n\0"):
            raise ValueError(f"headers: the value of {name} holds CR, LF or NUL")
    return [
        (name.encode("ascii"), None if value is None else value.encode()) for name, value in headers.items()
    ]


# https://www.rfc-editor.org/rfc/rfc9110#name-tokens
_TOKEN = re.compile("[-!#$%&'*+.^_`|~0-9A-Za-z]+")


def to_kept_headers(names: Iterable[str]) -> KeptHeaders:
    """
    Return the names of the request headers that channels keep.

    :raises ValueError: for an invalid header name.
    """
    if isinstance(names, str):
        raise ValueError(f"keep_headers must be a list of strings, not a single one: [{names!r}]")
    names = tuple(names)
    for name in names:
        if not isinstance(name, str):
            raise wrong_type("keep_headers", name, "a list of str")
        if not _TOKEN.fullmatch(name):
            raise ValueError(f"keep_headers: {name!r} is not a valid header name")
    return KeptHeaders(names)


def to_rules(
    methods: Iterable[str],
    allow_origins: Iterable[str],
    allow_credentials: bool,
    allow_headers: Iterable[str],
    max_last_event_id: int,
    conflicting_last_event_ids: str | None = None,
    any_accept: bool = False,
) -> Rules:
    """
    Return the rules for requests.

    :raises ValueError: for an invalid option, or for options that exclude each other.
    :raises TypeError: for an ``any_accept`` that is not a ``bool``.
    """
    if not isinstance(any_accept, bool):
        raise wrong_type("any_accept", any_accept, "True, to ignore the Accept header, or False")
    # A single string is iterable too: each of its letters would count as an item.
    for name, value in (
        ("methods", methods),
        ("allow_origins", allow_origins),
        ("allow_headers", allow_headers),
    ):
        if isinstance(value, str):
            raise ValueError(f"{name} must be a list of strings, not a single one: [{value!r}]")
    rules = Rules(
        methods=tuple(method.encode("ascii") for method in methods),
        allow_origins=frozenset(_read_origin(origin).encode("ascii") for origin in allow_origins),
        allow_credentials=allow_credentials,
        allow_headers=tuple(name.encode("ascii") for name in allow_headers),
        max_last_event_id=max_last_event_id,
        conflicting_last_event_ids=conflicting_last_event_ids,
        any_accept=any_accept,
    )
    if allow_credentials and b"*" in rules.allow_origins:
        raise ValueError("allow_credentials needs a list of origins: browsers refuse it with *")
    return rules


def _read_origin(origin: str) -> str:
    try:
        return origin if origin == "*" else parse_origin(origin)
    except ValueError as error:
        raise ValueError(f"allow_origins: {origin!r} is {error}") from None


def seconds(name: str, value: float | None, most: float = math.inf) -> float | None:
    """
    Return a positive number of seconds, or ``None``.

    :param name: the name of the option, for errors.
    :raises ValueError: for a number that is not positive or finite, or above ``most``.
    """
    if value is not None:
        check_number(name, value, "a number of seconds")
    if value is not None and not 0 < value < math.inf:
        raise ValueError(f"{name} must be a positive number of seconds, not {value!r}")
    if value is not None and value > most:
        raise ValueError(f"{name} must be at most {most:.0f} seconds, not {value!r}")
    return value
