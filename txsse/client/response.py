"""
Decide whether a reply opens a stream, redirects the client or refuses it; also parse URLs of HTTP.

Strategy: :func:`judge` takes the request and the head of its reply, all plain values, and returns one of
:class:`Opens`, :class:`Redirects` and :class:`Refuses`; it raises nothing. It does no input or output.

Sources: https://html.spec.whatwg.org/multipage/server-sent-events.html#sse-processing-model (which replies
open a stream), https://fetch.spec.whatwg.org/#http-redirect-fetch (redirects),
https://www.rfc-editor.org/rfc/rfc9110#field.retry-after (``Retry-After``)
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime

from hyperlink import URL

from txsse.client.fields import essence_of, is_compressed, is_list_of_codings
from txsse.errors import StreamRefused
from txsse.web.origin import DEFAULT_PORTS, ascii_host, format_origin

__all__ = ["Opens", "Redirects", "Refuses", "StreamRequest", "judge", "origin_of", "parse_url"]

Headers = tuple[tuple[str, str | bytes], ...]

_REDIRECTS = frozenset([301, 302, 303, 307, 308])

# The header fields of the program that another origin receives: without them the body means something else.
_ABOUT_BODY = ("content-type", "content-encoding", "content-language")


@dataclass(frozen=True)
class StreamRequest:
    """
    A request for a stream.

    :ivar url: its URL.
    :ivar method: its method.
    :ivar headers: the program's own header fields.
    :ivar body: its body; ``None`` for no body.
    :ivar trusted: the other origins that receive the program's own header fields after a redirect.
    """

    url: URL
    method: str
    headers: Headers
    body: bytes | None
    trusted: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Opens:
    """
    The reply opens a stream.
    """


@dataclass(frozen=True)
class Redirects:
    """
    The reply redirects the client to another request.
    """

    request: StreamRequest


@dataclass(frozen=True)
class Refuses:
    """
    The reply opens no stream.

    :ivar error: the reason.
    :ivar final: whether another attempt is futile.
    :ivar retry_after: the delay that the server wants before the next attempt, in seconds; ``None`` if the
        server names none.
    """

    error: StreamRefused
    final: bool
    retry_after: float | None = None


def judge(
    request: StreamRequest,
    status: int,
    fields: Callable[[str], Sequence[str]],
    *,
    temporary: Container[int],
    now: float,
) -> Opens | Redirects | Refuses:
    """
    Classify a reply.

    :param request: the request.
    :param status: the reply's status.
    :param fields: returns the values of all header fields of a name.
    :param temporary: the statuses after which another attempt makes sense.
    :param now: the time, in seconds since 1970, for a ``Retry-After`` that names a date.
    """
    if status in _REDIRECTS:
        locations = fields("Location")
        if locations:
            return _redirect(request, status, locations[-1])
    if status == 200:
        return _open(request, fields)
    refused = StreamRefused(f"the server answered {status}", url=request.url.to_text(), status=status)
    if status in temporary:
        return Refuses(refused, final=False, retry_after=_seconds(fields("Retry-After"), now))
    return Refuses(refused, final=True)


def parse_url(text: str, *, base: URL | None = None) -> URL:
    """
    Parse an absolute HTTP URL, or one relative to another.

    :raises ValueError: if the result is not an HTTP URL, or contains credentials.
    """
    scheme, colon, rest = text.partition(":")
    if scheme.lower() in DEFAULT_PORTS:
        # hyperlink knows the syntax and the default port of a scheme only if it is in lower case.
        text = scheme.lower() + colon + rest
    try:
        if base is not None and text.startswith("//"):
            # hyperlink would keep the port of the base, which belongs to another host.
            text, base = f"{base.scheme}:{text}", None
        url = URL.from_text(text) if base is None else base.click(text)
    except NotImplementedError:
        # Such as "javascript:alert(1)".
        raise ValueError(f"{text!r} is not an HTTP URL") from None
    if url.userinfo:
        # The message does not contain them.
        raise ValueError(f"the URL of {url.host} contains credentials; send them in the Authorization header")
    try:
        # hyperlink would refuse an IPv6 address, and a name with "_", as containers have.
        host = ascii_host(url.host) if url.host else ""
    except ValueError:
        raise ValueError(f"{text!r} is not an HTTP URL: its host is invalid") from None
    url = url.replace(fragment="", host="x").to_uri().replace(host=host)
    if url.scheme not in DEFAULT_PORTS or not url.host:
        raise ValueError(f"{text!r} is not an HTTP URL; one begins with http:// or https:// and a host")
    if url.port is not None and url.port > 65535:
        raise ValueError(f"{text!r} is not an HTTP URL: its port {url.port} is above 65535")
    return url


def _open(request: StreamRequest, fields: Callable[[str], Sequence[str]]) -> Opens | Refuses:
    kinds, codings = fields("Content-Type"), fields("Content-Encoding")
    # Parameters of the type are ignored: the format is always UTF-8.
    if essence_of(kinds) != "text/event-stream":
        problem, final = (
            f"the server sends {', '.join(filter(None, kinds)) or 'nothing'}, and not text/event-stream",
            True,
        )
    elif not is_list_of_codings(codings):
        # In Chromium this is a network error, after which it reconnects.
        problem, final = (
            f"the server sends the stream as {', '.join(codings)}, which is not a list of content codings",
            False,
        )
    elif is_compressed(codings):
        problem, final = (
            f"the server sends the stream as {', '.join(codings)}, which the client did not request",
            True,
        )
    else:
        return Opens()
    return Refuses(StreamRefused(problem, url=request.url.to_text(), status=200), final)


def _redirect(request: StreamRequest, status: int, location: str) -> Redirects | Refuses:
    try:
        url = parse_url(location, base=request.url)
    except ValueError as error:
        problem = f"the server redirects to a URL that cannot be followed: {error}"
        return Refuses(StreamRefused(problem, url=request.url.to_text(), status=status), final=True)
    following = replace(request, url=url)
    if (status in (301, 302) and request.method == "POST") or (
        status == 303 and request.method not in ("GET", "HEAD")
    ):
        # The redirected request has had its effect: the body is not sent again.
        headers = tuple(field for field in request.headers if not field[0].lower().startswith("content-"))
        following = replace(following, method="GET", headers=headers, body=None)
    if origin_of(url) not in {origin_of(request.url), *request.trusted}:
        # The Fetch standard removes only Authorization, because CORS limits what else a page may send.
        # Nothing of that kind protects a program, whose keys may be in fields of any name. The body is sent
        # again, as in the standard.
        kept = () if following.body is None else _ABOUT_BODY
        headers = tuple(field for field in following.headers if field[0].lower() in kept)
        following = replace(following, headers=headers)
    return Redirects(following)


def origin_of(url: URL) -> str:
    """
    Return the origin of an HTTP URL.
    """
    return format_origin(url.scheme, url.host, url.port)


def _seconds(retry_after: Sequence[str], now: float) -> float | None:
    if not retry_after:
        return None
    text = retry_after[-1].strip()
    # A number with more digits than any clock has is not a number of seconds.
    if text.isascii() and text.isdigit() and len(text) <= 9:
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, TypeError, OverflowError):
        return None
