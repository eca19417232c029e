"""
Content negotiation: a request is accepted as a stream, or gets a complete response.

Strategy: :func:`decide` takes the properties of the request and the rules, both plain values, and returns an
:class:`Accepted` or an :class:`Answer`; it has no side effects and raises nothing. :func:`read_asked` is the
only function that reads a Twisted request.

Sources: https://www.rfc-editor.org/rfc/rfc9110 (methods, ``Accept``),
https://fetch.spec.whatwg.org/#http-cors-protocol (CORS),
https://html.spec.whatwg.org/multipage/server-sent-events.html (``Last-Event-ID``).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from twisted.web.http import Request

__all__ = [
    "Accepted",
    "Answer",
    "Asked",
    "Malformed",
    "Rules",
    "cors_headers",
    "decide",
    "read_asked",
    "read_last_event_id",
    "refusal",
]

Headers = list[tuple[bytes, bytes]]

MEDIA_TYPE = b"text/event-stream"

# no-cache and no-store keep a cache from replaying an old stream. no-transform keeps a proxy from compressing
# the stream, which would hold events back. nginx buffers unless X-Accel-Buffering says no.
STREAM_HEADERS: Headers = [
    (b"Content-Type", MEDIA_TYPE),
    (b"Cache-Control", b"no-cache, no-store, no-transform"),
    (b"X-Accel-Buffering", b"no"),
]

# How long a browser may cache a preflight response, in seconds: Chromium caps it at 7200 anyway.
_PREFLIGHT_MAX_AGE = b"7200"


@dataclass(frozen=True)
class Rules:
    """
    The requests that an upgrader accepts: the options of :class:`txsse.Upgrader`, as bytes.
    """

    methods: tuple[bytes, ...]
    allow_origins: frozenset[bytes]
    allow_credentials: bool
    allow_headers: tuple[bytes, ...]
    max_last_event_id: int
    conflicting_last_event_ids: str | None = None
    any_accept: bool = False


@dataclass(frozen=True)
class Asked:
    """
    The properties of a request that the decision depends on. Header fields have one value per line.
    """

    method: bytes
    accept: Sequence[bytes] = ()
    origin: bytes | None = None
    requested_method: bytes | None = None
    last_event_id: Sequence[bytes] = ()


@dataclass(frozen=True)
class Accepted:
    """
    The request becomes a stream; ``cors`` are those of ``headers`` that any other response needs too.
    """

    last_event_id: str
    headers: Headers
    cors: Headers


@dataclass(frozen=True)
class Answer:
    """
    The request gets a complete response; ``reason`` says why, to the client and to the log.
    """

    status: int
    reason: str
    headers: Headers
    body: bytes = b""


def read_asked(request: Request, last_event_id_parameter: bytes | None) -> Asked:
    """
    Read the properties of a request that the decision depends on.

    :param request: the request.
    :param last_event_id_parameter: the query parameter that replaces the ``Last-Event-ID`` header if the
        client cannot send it; ``None`` for no parameter.
    """
    fields = request.requestHeaders
    # Empty fields are ignored, and equal ones count once: a proxy may have duplicated the field.
    last_event_id = list(dict.fromkeys(filter(None, fields.getRawHeaders(b"Last-Event-ID") or [])))
    if not last_event_id and last_event_id_parameter is not None:
        # A client appends the parameter to a URL that may already have an older one, from when the page was
        # made.
        last_event_id = [each for each in (request.args or {}).get(last_event_id_parameter, []) if each][-1:]
    return Asked(
        method=request.method,
        accept=fields.getRawHeaders(b"Accept") or [],
        origin=request.getHeader(b"Origin"),
        requested_method=(
            request.getHeader(b"Access-Control-Request-Method") if request.method == b"OPTIONS" else None
        ),
        last_event_id=last_event_id,
    )


def decide(asked: Asked, rules: Rules) -> Accepted | Answer:
    """
    Decide whether a request becomes a stream, and which response it gets otherwise.
    """
    cors = cors_headers(asked, rules)
    allow = _allowed_methods(rules)
    if asked.method == b"OPTIONS":
        if asked.requested_method is not None and _is_allowed(asked, rules):
            cors += _preflight_headers(rules, allow)
        return Answer(204, "an OPTIONS request gets the allowed methods", [(b"Allow", allow), *cors])
    reading = asked.method == b"HEAD" and b"GET" in rules.methods
    if not reading and asked.method not in rules.methods:
        return refusal(405, f"allowed here: {allow.decode('ascii')}", [(b"Allow", allow), *cors])
    if not rules.any_accept and not accepts_event_stream(tuple(asked.accept)):
        return refusal(406, "only text/event-stream is available here", cors)
    values = asked.last_event_id
    if len(values) > 1 and rules.conflicting_last_event_ids is not None:
        values = [rules.conflicting_last_event_ids.encode()]
    last_event_id = read_last_event_id(values, rules.max_last_event_id)
    if isinstance(last_event_id, Malformed):
        return refusal(400, last_event_id.reason, cors)
    if reading:
        # The body would not end, so HEAD gets the headers that GET would get.
        return Answer(200, "a HEAD request gets the headers only", [*STREAM_HEADERS, *cors])
    return Accepted(last_event_id, [*STREAM_HEADERS, *cors], cors)


# Cached, because clients of the same kind send the same field.
@lru_cache(maxsize=256)
def accepts_event_stream(accept: tuple[bytes, ...]) -> bool:
    """
    Return whether an ``Accept`` field accepts ``text/event-stream``.

    The most specific media range that covers it decides; a weight of 0 refuses it. Without a field,
    everything is accepted.

    Source: https://www.rfc-editor.org/rfc/rfc9110#field.accept
    """
    best = (-1, 1.0)
    any_range = False
    for element in b",".join(accept).lower().split(b","):
        media_range, *parameters = (part.strip() for part in element.split(b";"))
        if not media_range:
            continue
        any_range = True
        if media_range in _SPECIFICITY:
            best = max(best, (_SPECIFICITY[media_range], _weight(parameters)))
    if not any_range:
        return True
    return best[0] >= 0 and best[1] > 0


_SPECIFICITY = {b"*/*": 0, b"text/*": 1, MEDIA_TYPE: 2}


def _weight(parameters: Sequence[bytes]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition(b"=")
        # An invalid weight is ignored rather than refusing the client.
        if name.strip() == b"q" and _WEIGHT.fullmatch(value.strip()):
            return float(value)
    return 1.0


_WEIGHT = re.compile(rb"[01](\.[0-9]*)?")


@dataclass(frozen=True)
class Malformed:
    """
    An invalid part of a request, and why it is invalid.
    """

    reason: str


def read_last_event_id(values: Sequence[bytes], limit: int) -> str | Malformed:
    """
    Return the ID that a client resumes from, ``""`` for none.

    :param values: all values that the request has for it.
    :param limit: the longest ID, in bytes.
    """
    if not values:
        return ""
    if len(values) > 1:
        return Malformed("more than one Last-Event-ID")
    if len(values[0]) > limit:
        return Malformed(f"Last-Event-ID has more than {limit} bytes")
    try:
        text = values[0].decode("utf-8")
    except UnicodeDecodeError:
        return Malformed("Last-Event-ID is not UTF-8")
    if any(character in text for character in "\r\n\0"):
        # No event can have such an ID; only a query string can contain one.
        return Malformed("Last-Event-ID holds CR, LF or NUL")
    return text


def _allowed_methods(rules: Rules) -> bytes:
    head = [b"HEAD"] if b"GET" in rules.methods else []
    return b", ".join([*rules.methods, *head, b"OPTIONS"])


def refusal(status: int, reason: str, headers: Headers) -> Answer:
    """
    Return a response whose body is the reason.
    """
    kind = (b"Content-Type", b"text/plain; charset=utf-8")
    return Answer(status, reason, [kind, *headers], reason.encode() + b"\n")


def cors_headers(asked: Asked, rules: Rules) -> Headers:
    """
    Return the headers that let a page of another origin read the response.

    Without them the browser withholds the response from the page; a request from the same origin needs none.
    """
    if b"*" in rules.allow_origins:
        return [(b"Access-Control-Allow-Origin", b"*")]
    # The response depends on the origin, which a shared cache must know even if this origin is not allowed.
    headers: Headers = [(b"Vary", b"Origin")] if rules.allow_origins else []
    if asked.origin is not None and _is_allowed(asked, rules):
        headers.append((b"Access-Control-Allow-Origin", asked.origin))
        if rules.allow_credentials:
            headers.append((b"Access-Control-Allow-Credentials", b"true"))
    return headers


def _is_allowed(asked: Asked, rules: Rules) -> bool:
    return asked.origin in rules.allow_origins or b"*" in rules.allow_origins


def _preflight_headers(rules: Rules, allow: bytes) -> Headers:
    return [
        (b"Access-Control-Allow-Methods", allow),
        (b"Access-Control-Allow-Headers", b", ".join(rules.allow_headers)),
        (b"Access-Control-Max-Age", _PREFLIGHT_MAX_AGE),
    ]
