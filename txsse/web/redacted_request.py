"""
Requests without the tokens in their queries, for log lines.

Before Mercure 1.0, clients that could not set headers sent ``?authorization=TOKEN``. With a token from a log,
its readers would have the permissions of the client.
"""

from __future__ import annotations

import re
from typing import Protocol

__all__ = ["RedactedRequest", "without_token"]

# Each character of the name may be percent-encoded, and in a URL within a URL the = as well. The value ends
# only where the next field begins: too much is removed rather than too little.
_NAME = b"".join(rb"(?:%c|%%%02x|%%%02x)" % (each, each, each - 32) for each in b"authorization")
_TOKEN = re.compile(rb"(" + _NAME + rb"(?:=|%3d|%253d))[^&]+", re.IGNORECASE)


def without_token(text: bytes) -> bytes:
    """
    Return a text, such as a URL, with the tokens in its queries replaced by ``***``.
    """
    return _TOKEN.sub(rb"\1***", text)


class LoggedRequest(Protocol):
    """
    A request, or the data kept of it, as far as this module reads it.
    """

    uri: bytes

    def getHeader(self, name: bytes, /) -> bytes | None:
        """
        Return a header field.
        """


class RedactedRequest:
    """
    A request as the formatter of a log sees it: without tokens.

    :param request: the request, or the data kept of it.
    """

    def __init__(self, request: LoggedRequest) -> None:
        self._request = request

    def __getattr__(self, name: str) -> object:
        return getattr(self._request, name)

    @property
    def uri(self) -> bytes:
        """
        The URI of the request, without tokens.
        """
        return without_token(self._request.uri)

    def getHeader(self, name: bytes) -> bytes | None:
        """
        Return a header field, without tokens: a page's URL may contain one, and so does then ``Referer``.
        """
        value = self._request.getHeader(name)
        return None if value is None else without_token(value)
