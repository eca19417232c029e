"""
The token that a request presents.

Sources: https://www.rfc-editor.org/rfc/rfc6750#section-2,
https://www.rfc-editor.org/rfc/rfc6265#section-5.4 (``Cookie``)
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from twisted.web.http import Request

from txsse.mercure.errors import BadPresentation, Forbidden
from txsse.mercure.forms import find_in_query
from txsse.mercure.settings import OLD_COOKIE, Settings
from txsse.web.origin import origin_of, parse_origin

__all__ = ["Credential", "check_origin", "find_credential"]

# To ignore the case of the whole would take five times as long, of a token with 400 characters.
_BEARER = re.compile(rb"(?i:bearer) +([A-Za-z0-9._~+/=-]+) *")


@dataclass(frozen=True)
class Credential:
    """
    A token as it was presented.

    :ivar by_cookie: whether the browser added it by itself, whoever made the request.
    """

    token: str
    by_cookie: bool = False


def find_credential(request: Request, settings: Settings) -> Credential | None:
    """
    Return what a request presents: its ``Authorization`` field, where that is a Bearer's, or else its cookie.

    :raises BadPresentation: for a field that makes no sense.
    """
    fields = request.requestHeaders.getRawHeaders(b"Authorization") or []
    if len(fields) > 1:
        raise BadPresentation("more than one Authorization")
    # What is there by another scheme is meant for somebody else, such as a proxy, and presents no token.
    if fields and fields[0][:7].lower().rstrip() == b"bearer":
        found = _BEARER.fullmatch(fields[0])
        if found is None:
            raise BadPresentation("Authorization holds no token behind Bearer")
        return Credential(found[1].decode("ascii"))
    if settings.compatibility:
        named = find_in_query(request, "authorization")
        # An empty one is none, as an empty cookie is.
        if named:
            return Credential(named)
    for name in (settings.cookie, *([OLD_COOKIE] if settings.compatibility else [])):
        cookie = _find_cookie(request, name.encode())
        if cookie:
            return Credential(cookie.decode("ascii", "replace"), by_cookie=True)
    return None


def _find_cookie(request: Request, name: bytes) -> bytes | None:
    """
    Return the first cookie of a name that has a value.

    Browsers send several of one name where they were set for several paths, the more specific path first.
    Twisted's ``received_cookies`` has the last of them: a stale one for ``/`` would hide the hub's own.
    HTTP/2 may spread them over several fields: https://www.rfc-editor.org/rfc/rfc9113#section-8.2.3
    """
    for field in request.requestHeaders.getRawHeaders(b"Cookie") or []:
        for pair in field.split(b";"):
            found, _, value = pair.strip(b" \t").partition(b"=")
            # Quotes belong to the value's syntax: https://www.rfc-editor.org/rfc/rfc6265#section-4.1.1
            if len(value) > 1 and value[:1] == value[-1:] == b'"':
                value = value[1:-1]
            if found == name and value:
                return value
    return None


def check_origin(request: Request, settings: Settings) -> None:
    """
    See that a page may publish in the name of whoever looks at it.

    :raises Forbidden: for a page of anybody else's, and where nothing tells whose it is.
    """
    if _asking_origin(request) not in {settings.origin, *settings.publish_origins}:
        raise Forbidden("this origin may not publish by a cookie")


def _asking_origin(request: Request) -> str | None:
    """
    Return the origin of the page that sends a request; ``None`` where it is not known.
    """
    origin = request.getHeader(b"Origin")
    try:
        if origin is not None:
            return parse_origin(origin.decode("latin-1"), allow_null=True)
        return origin_of((request.getHeader(b"Referer") or b"").decode("latin-1"))
    except ValueError:
        return None
