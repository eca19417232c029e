"""
Complete responses, as opposed to streams.

:func:`send_response` is the only function that finishes one. The resources in this module respond with one
sentence.
"""

from __future__ import annotations

from collections.abc import Iterable

from twisted.web.http import NO_BODY_CODES, Request
from twisted.web.resource import IResource, Resource
from twisted.web.server import NOT_DONE_YET

from txsse._twisted.http2 import was_reset
from txsse.web.origin import refuse_origin

__all__ = [
    "NOTHING",
    "TEXT",
    "Branch",
    "Headers",
    "Sentence",
    "can_respond",
    "refuse_method",
    "refuse_strangers",
    "send_page",
    "send_response",
    "set_headers",
]

#: The media type of a sentence.
TEXT = b"text/plain; charset=utf-8"

#: The sentence for a path that does not exist.
NOTHING = "There is nothing here."

#: Response headers; ``None`` removes one.
Headers = Iterable[tuple[bytes, bytes | None]]


def send_response(
    request: Request,
    status: int,
    body: str | bytes = b"",
    *,
    content_type: bytes = TEXT,
    headers: Headers = (),
) -> int:
    """
    Send a complete response, and finish the request; do nothing if the client has disconnected.

    Caches do not store the response unless ``headers`` allows it, and browsers do not guess its type.

    :param request: the request, to which no response has been sent.
    :param status: the status code.
    :param body: the body; a ``str`` is one line of text, and is sent with its line end.
    :param content_type: the media type of the body.
    :param headers: further headers; they replace the default ones.
    :returns: ``NOT_DONE_YET``, for ``render`` to return.
    """
    if not can_respond(request):
        return NOT_DONE_YET
    content = f"{body}\n".encode() if isinstance(body, str) else body
    request.setResponseCode(status)
    own: list[tuple[bytes, bytes | None]] = [(b"X-Content-Type-Options", b"nosniff")]
    if not request.responseHeaders.hasHeader(b"Cache-Control"):
        own.append((b"Cache-Control", b"no-store"))
    # Twisted has set text/html by default.
    own.append((b"Content-Type", None if status in NO_BODY_CODES else content_type))
    set_headers(request, [*own, *headers])
    # In response to HEAD, an empty body does not have the length that GET would send: a stream has none.
    if status not in NO_BODY_CODES and (content or request.method != b"HEAD"):
        request.setHeader(b"Content-Length", b"%d" % len(content))
    if content and request.method != b"HEAD":
        request.write(content)
    request.finish()
    return NOT_DONE_YET


def send_page(request: Request, page: bytes, policy: bytes) -> int:
    """
    Send an HTML page; browsers revalidate it each time, so that an old page does not meet a newer server.

    :param policy: the page's Content-Security-Policy.
    """
    return send_response(
        request,
        200,
        page,
        content_type=b"text/html; charset=utf-8",
        headers=[(b"Content-Security-Policy", policy), (b"Cache-Control", b"no-cache")],
    )


def can_respond(request: Request) -> bool:
    """
    Return whether a response can still be sent: the request is not finished, and its client is connected.
    """
    return not (request.finished or getattr(request, "channel", None) is None or was_reset(request))


def set_headers(request: Request, headers: Headers) -> None:
    """
    Set response headers; a ``Vary`` is added to the existing ones.
    """
    for name, value in headers:
        if value is None:
            request.responseHeaders.removeHeader(name)
        elif name.lower() == b"vary":
            request.responseHeaders.addRawHeader(name, value)
        else:
            request.responseHeaders.setRawHeaders(name, [value])


class Branch(Resource):
    """
    A resource that exists only for its children: its own path does not exist.

    :param nothing: the sentence for a path that does not exist.
    """

    def __init__(self, nothing: str = NOTHING) -> None:
        Resource.__init__(self)
        self._nothing = Sentence(404, nothing)

    def getChild(self, path: bytes, request: Request) -> IResource:
        """
        Return a resource that sends 404.
        """
        return self._nothing

    def render(self, request: Request) -> int:
        """
        Send 404.
        """
        return self._nothing.render(request)


class Sentence(Resource):
    """
    A resource that answers any request with one sentence.

    :param status: the status code.
    :param sentence: the sentence.
    :param headers: further headers.
    """

    isLeaf = True

    def __init__(self, status: int, sentence: str, headers: Headers = ()) -> None:
        Resource.__init__(self)
        self._status = status
        self._sentence = sentence
        self._headers = headers

    def render(self, request: Request) -> int:
        """
        Send the sentence.
        """
        return send_response(request, self._status, self._sentence, headers=self._headers)


def refuse_method(request: Request, allowed: str) -> int:
    """
    Send 405 with the allowed methods.

    :param allowed: the methods, separated by commas.
    """
    return send_response(
        request, 405, f"Allowed here: {allowed}.", headers=[(b"Allow", allowed.encode("ascii"))]
    )


def refuse_strangers(request: Request) -> Sentence | None:
    """
    Return 403 for a request that only a page of this server may send; ``None`` if such a page sent it.
    """
    refused = refuse_origin(
        request.getHeader(b"Origin"),
        request.getHeader(b"Sec-Fetch-Site"),
        "https" if request.isSecure() else "http",
        request.getHeader(b"Host"),
    )
    return None if refused is None else Sentence(403, refused)
