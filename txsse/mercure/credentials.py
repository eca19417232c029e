"""
Finds the token that a request presents, and checks the origin of a page that publishes with a cookie.

Sources: https://www.rfc-editor.org/rfc/rfc6750#section-2, https://www.rfc-editor.org/rfc/rfc6265#section-5.4
(``Cookie``)
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

# Only the scheme ignores case: ignoring it for the whole field takes five times as long, with a token of 400
# characters.
_BEARER = re.compile(rb"(?i:bearer) +([A-Za-z0-9._~+/=-]+) *")


@dataclass(frozen=True)
class Credential:
    """
    A token as the client presented it.

    :ivar by_cookie: whether it came in a cookie, which a browser adds to requests that any page makes.
    """

    token: str
    by_cookie: bool = False


def find_credential(request: Request, settings: Settings) -> Credential | None:
    """
    Return the token of a request: from ``Authorization`` with the Bearer scheme, or else a cookie.

    With ``compatibility``, the query parameter ``authorization`` and the cookie from before Mercure 1.0
    count, too.

    :returns: the token; ``None`` if the request presents none.
    :raises BadPresentation: if ``Authorization`` is repeated, or has no valid token after ``Bearer``.
    """
    fields = request.requestHeaders.getRawHeaders(b"Authorization") or []
    if len(fields) > 1:
        raise BadPresentation("more than one Authorization field")
    # A field with another scheme is meant for another recipient, such as a proxy, and presents no token.
    if fields and fields[0][:7].lower().rstrip() == b"bearer":
        found = _BEARER.fullmatch(fields[0])
        if found is None:
            raise BadPresentation("Authorization holds no token after Bearer")
        return Credential(found[1].decode("ascii"))
    if settings.compatibility:
        named = find_in_query(request, "authorization")
        # An empty parameter counts as absent, as an empty cookie does.
        if named:
            return Credential(named)
    for name in (settings.cookie, *([OLD_COOKIE] if settings.compatibility else [])):
        cookie = _find_cookie(request, name.encode())
        if cookie:
            return Credential(cookie.decode("ascii", "replace"), by_cookie=True)
    return None


def _find_cookie(request: Request, name: bytes) -> bytes | None:
    """
    Return the first non-empty cookie with a name.

    If cookies of one name were set for several paths, a browser sends them all, the most specific path first.
    Twisted's ``received_cookies`` keeps the last one: a stale cookie for ``/`` would hide the hub's. HTTP/2
    may split cookies over several fields: https://www.rfc-editor.org/rfc/rfc9113#section-8.2.3
    """
    for field in request.requestHeaders.getRawHeaders(b"Cookie") or []:
        for pair in field.split(b";"):
            found, _, value = pair.strip(b" \t").partition(b"=")
            # Quotes are part of the value's syntax: https://www.rfc-editor.org/rfc/rfc6265#section-4.1.1
            if len(value) > 1 and value[:1] == value[-1:] == b'"':
                value = value[1:-1]
            if found == name and value:
                return value
    return None


def check_origin(request: Request, settings: Settings) -> None:
    """
    Check that the page that sent a request may publish with its user's cookie (CSRF protection).

    :raises Forbidden: if the page's origin is unknown, or neither the hub's nor in ``publish_origins``.
    """
    if _page_origin(request) not in {settings.origin, *settings.publish_origins}:
        raise Forbidden("this origin may not publish with a cookie")


def _page_origin(request: Request) -> str | None:
    """
    Return the origin of the page that sent a request, by ``Origin`` or else ``Referer``; ``None`` if unknown.
    """
    origin = request.getHeader(b"Origin")
    try:
        if origin is not None:
            return parse_origin(origin.decode("latin-1"), allow_null=True)
        return origin_of((request.getHeader(b"Referer") or b"").decode("latin-1"))
    except ValueError:
        return None
