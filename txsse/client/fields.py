"""
Header fields of a reply, as browsers read them.

Strategy: :func:`fields_of` returns the values of all fields of one name, in the order in which they came; the
other functions take them, and raise nothing.

Sources: https://fetch.spec.whatwg.org/#concept-header-extract-mime-type and
https://mimesniff.spec.whatwg.org/#parsing-a-mime-type for media types; for codings, which the standard leaves
to the implementation, what Chromium does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from twisted.web.iweb import IResponse

__all__ = ["essence_of", "fields_of", "is_chunked", "is_compressed", "is_list_of_codings"]

# What is between two commas that separate: a quoted string may hold commas, and may be without an end.
_VALUE = re.compile(r'(?:[^",]++|"(?:[^"\\]++|\\.)*+(?:"|\\?\Z))*+', re.DOTALL)

_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_MEDIA_TYPE = re.compile(rf"[\t\n\r ]*({_TOKEN}/{_TOKEN})[\t\n\r ]*(?:;|\Z)")

# The codings that Chromium knows. It takes what it does not know for no coding at all.
_COMPRESSIONS = frozenset(["gzip", "x-gzip", "deflate", "br", "zstd"])


def fields_of(response: IResponse, name: str) -> list[str]:
    """
    Return the values of all header fields of a name.
    """
    return [_text(value) for value in response.headers.getRawHeaders(name.encode("ascii"), ())]


def essence_of(content_type: Iterable[str]) -> str | None:
    """
    Extract the media type of a reply, without its parameters: the last one that is valid and is not ``*/*``.

    :returns: the type in lower case; ``None`` where there is none.
    """
    essence = None
    for value in _split(", ".join(content_type)):
        match = _MEDIA_TYPE.match(value)
        if match is not None and match[1] != "*/*":
            essence = match[1].lower()
    return essence


def is_list_of_codings(content_encoding: Iterable[str]) -> bool:
    """
    Return whether ``Content-Encoding`` has the form of a list of tokens.
    """
    return not any(
        len(coding.split()) > 1 or any(character in coding for character in '"=;*')
        for coding in _codings(content_encoding)
    )


def is_compressed(content_encoding: Iterable[str]) -> bool:
    """
    Return whether a body has to be decompressed. Where one coding is unknown, or ``identity``, the body is
    taken as it is.
    """
    codings = _codings(content_encoding)
    return bool(codings) and _COMPRESSIONS.issuperset(codings)


def is_chunked(transfer_encoding: Iterable[str]) -> bool:
    """
    Return whether a body comes in chunks: where that is one of the codings. The others do not count.
    """
    return "chunked" in _codings(transfer_encoding)


def _codings(values: Iterable[str]) -> Sequence[str]:
    return [coding.strip(" \t").lower() for value in values for coding in value.split(",")]


def _split(text: str) -> Iterable[str]:
    position = 0
    while position <= len(text):
        match = _VALUE.match(text, position)
        assert match is not None
        yield match[0]
        position = match.end() + 1


def _text(value: bytes) -> str:
    # Browsers take a Location that is not ASCII for UTF-8, and servers send it so.
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")
