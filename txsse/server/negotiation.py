"""
What a request gets, decided without touching it: a stream, or an answer.

Strategy: :func:`decide` takes what was asked and the rules, both plain values, and returns an
:class:`Accepted` or an :class:`Answer`; it raises nothing. :func:`read_asked` is the one function that looks
at a Twisted request.

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

# no-cache and no-store keep a cache from replaying an old stream, no-transform keeps a proxy from compressing
# it, and with that from holding events back; nginx buffers unless X-Accel-Buffering says no.
STREAM_HEADERS: Headers = [
    (b"Content-Type", MEDIA_TYPE),
    (b"Cache-Control", b"no-cache, no-store, no-transform"),
    (b"X-Accel-Buffering", b"no"),
]

# How long a browser may remember a preflight's answer, in seconds: Chromium caps it at 7200 anyway.
_PREFLIGHT_MAX_AGE = b"7200"


@dataclass(frozen=True)
class Rules:
    """
    What is allowed, as :class:`txsse.Upgrader` was told.
    """

    methods: tuple[bytes, ...]
    allow_origins: frozenset[bytes]
    allow_credentials: bool
    allow_headers: tuple[bytes, ...]
    max_last_event_id: int
    conflicting_last_event_ids: str | None = None


@dataclass(frozen=True)
class Asked:
    """
    What a request asks for. Header fields are as they came: one value for each line.
    """

    method: bytes
    accept: Sequence[bytes] = ()
    origin: bytes | None = None
    requested_method: bytes | None = None
    last_event_id: Sequence[bytes] = ()


@dataclass(frozen=True)
class Accepted:
    """
    The request becomes a stream. ``cors`` are those of the headers that any other answer to it needs too.
    """

    last_event_id: str
    headers: Headers
    cors: Headers


@dataclass(frozen=True)
class Answer:
    """
    The request is answered and that is all; ``reason`` says why, to the client and to the log.
    """

    status: int
    reason: str
    headers: Headers
    body: bytes = b""


def read_asked(request: Request, last_event_id_parameter: bytes | None) -> Asked:
    """
    Take from a request what the decision depends on.

    :param request: the request.
    :param last_event_id_parameter: the query parameter that stands in for the ``Last-Event-ID`` header
        where the client cannot send it; ``None`` for none.
    """
    fields = request.requestHeaders
    # An empty field says nothing, and the same one twice says it once: a proxy may have doubled it.
    last_event_id = list(dict.fromkeys(filter(None, fields.getRawHeaders(b"Last-Event-ID") or [])))
    if not last_event_id and last_event_id_parameter is not None:
        # Clients append it to a URL that may have one already, of the time when the page was made.
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
    Decide what a request gets.
    """
    cors = cors_headers(asked, rules)
    allow = _allowed_methods(rules)
    if asked.method == b"OPTIONS":
        if asked.requested_method is not None and _is_allowed(asked, rules):
            cors += _preflight_headers(rules, allow)
        return Answer(204, "OPTIONS tells what is allowed here", [(b"Allow", allow), *cors])
    reading = asked.method == b"HEAD" and b"GET" in rules.methods
    if not reading and asked.method not in rules.methods:
        return refusal(405, f"allowed here: {allow.decode('ascii')}", [(b"Allow", allow), *cors])
    if not accepts_event_stream(tuple(asked.accept)):
        return refusal(406, "only text/event-stream is to be had here", cors)
    values = asked.last_event_id
    if len(values) > 1 and rules.conflicting_last_event_ids is not None:
        values = [rules.conflicting_last_event_ids.encode()]
    last_event_id = read_last_event_id(values, rules.max_last_event_id)
    if isinstance(last_event_id, Malformed):
        return refusal(400, last_event_id.reason, cors)
    if reading:
        # The body would have no end, so a HEAD is answered with what a GET would begin with.
        return Answer(200, "HEAD gets the headers alone", [*STREAM_HEADERS, *cors])
    return Accepted(last_event_id, [*STREAM_HEADERS, *cors], cors)


# Clients of one kind send the same.
@lru_cache(maxsize=256)
def accepts_event_stream(accept: tuple[bytes, ...]) -> bool:
    """
    Tell whether an ``Accept`` field lets ``text/event-stream`` through: the most specific media range that
    covers it decides, and a weight of 0 means no. No field at all accepts everything.

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
        # A weight that is none must not shut a client out.
        if name.strip() == b"q" and _WEIGHT.fullmatch(value.strip()):
            return float(value)
    return 1.0


_WEIGHT = re.compile(rb"[01](\.[0-9]*)?")


@dataclass(frozen=True)
class Malformed:
    """
    What a request holds makes no sense, and why.
    """

    reason: str


def read_last_event_id(values: Sequence[bytes], limit: int) -> str | Malformed:
    """
    Return the id that a client resumes from, ``""`` for none.

    :param values: all that the request gives as one.
    :param limit: the longest, in bytes.
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
        # No event can have had such an id; only a query string can carry one.
        return Malformed("Last-Event-ID holds CR, LF or NUL")
    return text


def _allowed_methods(rules: Rules) -> bytes:
    head = [b"HEAD"] if b"GET" in rules.methods else []
    return b", ".join([*rules.methods, *head, b"OPTIONS"])


def refusal(status: int, reason: str, headers: Headers) -> Answer:
    """
    Make an answer out of its reason.
    """
    kind = (b"Content-Type", b"text/plain; charset=utf-8")
    return Answer(status, reason, [kind, *headers], reason.encode() + b"\n")


def cors_headers(asked: Asked, rules: Rules) -> Headers:
    """
    Tell a page of another origin that it may read the answer. Without these headers the browser keeps it
    from the page; a request from the same origin needs none.
    """
    if b"*" in rules.allow_origins:
        return [(b"Access-Control-Allow-Origin", b"*")]
    # The answer depends on who asks, which a shared cache has to know whether or not this one may.
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
