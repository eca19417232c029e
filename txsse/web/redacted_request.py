"""
Requests as logs may have them: without the token that some bring in their query.

Before Mercure 1.0 clients that could set no header wrote ``?authorization=TOKEN``; whoever reads a log could
then do what they may.
"""

from __future__ import annotations

import re
from typing import Any

__all__ = ["RedactedRequest", "without_token"]

# Each character of the name may be written as a % and two digits; in a URL within a URL, the = as well. The
# value ends where the next field begins, and in no other place: too much is cut out rather than too little.
_NAME = b"".join(rb"(?:%c|%%%02x|%%%02x)" % (each, each, each - 32) for each in b"authorization")
_TOKEN = re.compile(rb"(" + _NAME + rb"(?:=|%3d|%253d))[^&]+", re.IGNORECASE)


def without_token(text: bytes) -> bytes:
    """
    Return a text, such as a URL, without the tokens in its queries.
    """
    return _TOKEN.sub(rb"\1***", text)


class RedactedRequest:
    """
    What a log's formatter sees of a request.

    :param request: the request, or what is left of one.
    """

    def __init__(self, request: Any) -> None:
        self._request = request

    def __getattr__(self, name: str) -> Any:
        return getattr(self._request, name)

    @property
    def uri(self) -> bytes:
        """
        What was asked for.
        """
        return without_token(self._request.uri)

    def getHeader(self, name: bytes) -> bytes | None:
        """
        Return a header field. A page's URL may have had the token, too, and is then in ``Referer``.
        """
        value: bytes | None = self._request.getHeader(name)
        return None if value is None else without_token(value)
