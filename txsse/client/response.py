"""
What a reply means for a stream, decided without touching it.

Strategy: :func:`judge` takes what was asked and the reply's head, all plain values, and returns one of
:class:`Opens`, :class:`Redirects` and :class:`Refuses`; it raises nothing.

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

__all__ = ["Asked", "Opens", "Redirects", "Refuses", "judge", "origin_of", "parse_url"]

Headers = tuple[tuple[str, str | bytes], ...]

_REDIRECTS = frozenset([301, 302, 303, 307, 308])

# The header fields that another origin gets: without them the body is not what it was.
_ABOUT_BODY = ("content-type", "content-encoding", "content-language")


@dataclass(frozen=True)
class Asked:
    """
    A request.

    :ivar url: where it goes.
    :ivar method: its method.
    :ivar headers: the user's own header fields.
    :ivar body: its body; ``None`` for none.
    :ivar trusted: the other origins that a redirect may take the user's own header fields to.
    """

    url: URL
    method: str
    headers: Headers
    body: bytes | None
    trusted: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Opens:
    """
    The stream begins.
    """


@dataclass(frozen=True)
class Redirects:
    """
    Ask somewhere else.
    """

    asked: Asked


@dataclass(frozen=True)
class Refuses:
    """
    There is no stream.

    :ivar error: why.
    :ivar final: whether asking again is futile.
    :ivar retry_after: when the server wants to be asked again, in seconds; ``None`` where it does not say.
    """

    error: StreamRefused
    final: bool
    retry_after: float | None = None


def judge(
    asked: Asked,
    status: int,
    fields: Callable[[str], Sequence[str]],
    *,
    temporary: Container[int],
    now: float,
) -> Opens | Redirects | Refuses:
    """
    Decide what a reply means.

    :param asked: the request.
    :param status: the reply's status.
    :param fields: returns the values of all header fields of a name.
    :param temporary: the statuses behind which a stream may open later.
    :param now: the time, in seconds since 1970, for a ``Retry-After`` that names a date.
    """
    if status in _REDIRECTS:
        locations = fields("Location")
        if locations:
            return _redirect(asked, status, locations[-1])
    if status == 200:
        return _open(asked, fields)
    refused = StreamRefused(f"the server answered {status}", url=asked.url.to_text(), status=status)
    if status in temporary:
        return Refuses(refused, final=False, retry_after=_seconds(fields("Retry-After"), now))
    return Refuses(refused, final=True)


def parse_url(text: str, *, base: URL | None = None) -> URL:
    """
    Read an absolute URL of HTTP, or one relative to another.

    :raises ValueError: for anything else.
    """
    scheme, colon, rest = text.partition(":")
    if scheme.lower() in DEFAULT_PORTS:
        # In capital letters, hyperlink knows neither what belongs to a scheme nor its port.
        text = scheme.lower() + colon + rest
    try:
        if base is not None and text.startswith("//"):
            # hyperlink would keep the port of the base, which belongs to another host.
            text, base = f"{base.scheme}:{text}", None
        url = URL.from_text(text) if base is None else base.click(text)
    except NotImplementedError:
        # Such as "javascript:alert(1)".
        raise ValueError(f"{text!r} is no URL of HTTP") from None
    if url.userinfo:
        # Which are not shown.
        raise ValueError(f"the URL of {url.host} holds credentials; these go into the Authorization header")
    try:
        # hyperlink would refuse an address of IPv6, and a name with _, as containers have.
        host = ascii_host(url.host) if url.host else ""
    except ValueError:
        raise ValueError(f"{text!r} is no URL of HTTP: its host cannot be") from None
    url = url.replace(fragment="", host="x").to_uri().replace(host=host)
    if url.scheme not in DEFAULT_PORTS or not url.host:
        raise ValueError(f"{text!r} is no URL of HTTP; one begins with http:// or https:// and a host")
    if url.port is not None and url.port > 65535:
        raise ValueError(f"{text!r} is no URL of HTTP: there is no port {url.port}")
    return url


def _open(asked: Asked, fields: Callable[[str], Sequence[str]]) -> Opens | Refuses:
    kinds, codings = fields("Content-Type"), fields("Content-Encoding")
    # Whatever parameters there are: the format knows UTF-8 alone.
    if essence_of(kinds) != "text/event-stream":
        problem, final = (
            f"the server sends {', '.join(filter(None, kinds)) or 'nothing'}, and not text/event-stream",
            True,
        )
    elif not is_list_of_codings(codings):
        # A network error in Chromium, which is followed by another attempt.
        problem, final = (
            f"the server sends the stream as {', '.join(codings)}, which is no list of codings",
            False,
        )
    elif is_compressed(codings):
        problem, final = f"the server sends the stream as {', '.join(codings)}, which was not asked for", True
    else:
        return Opens()
    return Refuses(StreamRefused(problem, url=asked.url.to_text(), status=200), final)


def _redirect(asked: Asked, status: int, location: str) -> Redirects | Refuses:
    try:
        url = parse_url(location, base=asked.url)
    except ValueError as error:
        problem = f"the server redirects to what cannot be followed: {error}"
        return Refuses(StreamRefused(problem, url=asked.url.to_text(), status=status), final=True)
    following = replace(asked, url=url)
    if (status in (301, 302) and asked.method == "POST") or (
        status == 303 and asked.method not in ("GET", "HEAD")
    ):
        # What the body was for has been done.
        headers = tuple(field for field in asked.headers if not field[0].lower().startswith("content-"))
        following = replace(following, method="GET", headers=headers, body=None)
    if origin_of(url) not in {origin_of(asked.url), *asked.trusted}:
        # The Fetch standard takes away Authorization alone, because CORS limits what else a page may send.
        # Nothing of that kind protects a program, whose keys may be in fields of any name. The body is sent
        # again, as in the standard.
        kept = () if following.body is None else _ABOUT_BODY
        headers = tuple(field for field in following.headers if field[0].lower() in kept)
        following = replace(following, headers=headers)
    return Redirects(following)


def origin_of(url: URL) -> str:
    """
    Return the origin of a URL of HTTP.
    """
    return format_origin(url.scheme, url.host, url.port)


def _seconds(retry_after: Sequence[str], now: float) -> float | None:
    if not retry_after:
        return None
    text = retry_after[-1].strip()
    # A number of more digits than any clock has is no number of seconds.
    if text.isascii() and text.isdigit() and len(text) <= 9:
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, TypeError, OverflowError):
        return None
