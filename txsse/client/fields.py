"""
Parse the header fields of a reply as browsers do.

Strategy: :func:`fields_of` returns the values of all fields of one name, in the order received; the other
functions take these values, and raise nothing.

Sources: https://fetch.spec.whatwg.org/#concept-header-extract-mime-type and
https://mimesniff.spec.whatwg.org/#parsing-a-mime-type for media types. The standard leaves codings to the
implementation; they are read as in Chromium.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from twisted.web.iweb import IResponse

__all__ = ["essence_of", "fields_of", "is_chunked", "is_compressed", "is_list_of_codings"]

# The text between two separating commas: a quoted string may contain commas, and may lack its end quote.
_VALUE = re.compile(r'(?:[^",]++|"(?:[^"\\]++|\\.)*+(?:"|\\?\Z))*+', re.DOTALL)

_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_MEDIA_TYPE = re.compile(rf"[\t\n\r ]*({_TOKEN}/{_TOKEN})[\t\n\r ]*(?:;|\Z)")

# The codings that Chromium knows. It treats an unknown coding as no coding.
_COMPRESSIONS = frozenset(["gzip", "x-gzip", "deflate", "br", "zstd"])


def fields_of(response: IResponse, name: str) -> list[str]:
    """
    Return the values of all header fields of one name, in the order received.
    """
    return [_text(value) for value in response.headers.getRawHeaders(name.encode("ascii"), ())]


def essence_of(content_type: Iterable[str]) -> str | None:
    """
    Extract the media type of a reply, without its parameters: the last one that is valid and not ``*/*``.

    :returns: the type in lower case; ``None`` if no value is valid.
    """
    essence = None
    for value in _split(", ".join(content_type)):
        match = _MEDIA_TYPE.match(value)
        if match is not None and match[1] != "*/*":
            essence = match[1].lower()
    return essence


def is_list_of_codings(content_encoding: Iterable[str]) -> bool:
    """
    Return whether ``Content-Encoding`` is, by its syntax, a list of tokens.
    """
    return not any(
        len(coding.split()) > 1 or any(character in coding for character in '"=;*')
        for coding in _codings(content_encoding)
    )


def is_compressed(content_encoding: Iterable[str]) -> bool:
    """
    Return whether a body has to be decompressed: every coding is known.

    With an unknown coding, or ``identity``, among them, the body is read as if it had none.
    """
    codings = _codings(content_encoding)
    return bool(codings) and _COMPRESSIONS.issuperset(codings)


def is_chunked(transfer_encoding: Iterable[str]) -> bool:
    """
    Return whether a body is chunked: ``chunked`` is one of the codings. Other codings are ignored.
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
    # Browsers decode a Location that is not ASCII as UTF-8, and servers send it so.
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")
