"""
One event as a value. An illegal one cannot be built, so nothing behind it checks again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import repeat
from typing import Any, NamedTuple, Self

from txsse.errors import InvalidField

__all__ = [
    "MAX_RETRY_MILLISECONDS",
    "NO_ID",
    "NO_TYPE",
    "ServerSentEvent",
    "check_text",
    "parsed_event",
    "parsed_events",
]

# A line ends at CR and at LF, so either would end the field and start one of the writer's choice.
_LINE_END = re.compile("[\r\n]")
# A client ignores an id with a NUL altogether, and would resume from the one before.
_LINE_END_OR_NUL = re.compile("[\r\n\0]")

# 31,700 years; up to there, seconds as a float tell every millisecond from the next.
MAX_RETRY_MILLISECONDS = 10**15
_MAX_RETRY = MAX_RETRY_MILLISECONDS // 1000


class _Unnamed(str):
    """
    The type or the id of an event whose stream names none: ``"message"`` and ``""``, as a browser reports
    them. An event that is sent on is written without such a field: an empty ``id`` would make its reader
    forget the last one.
    """

    __slots__ = ()

    def __reduce__(self) -> str:
        # There is one of each, also in what is copied.
        return "NO_TYPE" if self else "NO_ID"


NO_ID = _Unnamed("")
NO_TYPE = _Unnamed("message")


class _Fields(NamedTuple):
    data: str
    event: str | None
    id: str | None
    retry: float | None


class ServerSentEvent(_Fields):
    """
    One event: what :func:`txsse.encode_event` writes and :class:`txsse.EventStreamParser` returns.

    It is a named tuple, because nothing else that is immutable is built half as fast.

    :param data: the text; each of its lines goes into a ``data:`` line of its own, and CR LF and CR
        reach the client as LF. ``""`` is data too.
    :param event: the type, by which ``addEventListener`` tells events apart; ``None`` or ``""`` for
        ``message``, the default.
    :param id: what the client sends back as ``Last-Event-ID`` when it reconnects; ``""`` makes it forget
        the last one, ``None`` leaves it as it is. Keep it short, and without spaces at its ends: a header
        field loses these on the way back.
    :param retry: the time in seconds that the client is to wait before it reconnects, from now on.
    :raises InvalidField: for CR or LF in ``event`` or ``id``, NUL in ``id``, a lone surrogate anywhere,
        a ``retry`` that is negative, not finite or more than 10**12 seconds.
    :raises TypeError: for a field of another type; ``bool`` is no number here.

    Source: https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
    """

    __slots__ = ()

    def __new__(
        cls,
        data: str = "",
        event: str | None = None,
        id: str | None = None,
        retry: float | None = None,
    ) -> Self:
        data = check_text("data", data)
        if event is not None and event is not NO_TYPE:
            event = check_text("event", event, _LINE_END)
        if id is not None and id is not NO_ID:
            id = check_text("id", id, _LINE_END_OR_NUL)
        if retry is not None:
            _check_retry(retry)
        return tuple.__new__(cls, (data, event, id, retry))

    @classmethod
    def _make(cls, iterable: Iterable[Any]) -> Self:  # type: ignore[override]
        # The inherited one, behind ``_replace`` too, would let illegal values in.
        return cls(*iterable)

    def __reduce__(self) -> tuple[type[Self], tuple[object, ...]]:
        # So would unpickling with the protocols 0 and 1.
        return type(self), tuple(self)


def parsed_event(data: str, event: str, id: str, retry: float | None) -> ServerSentEvent:
    """
    Build an event from fields that came out of a stream, where no illegal value can come from: its lines
    are split, ids with NUL are ignored before, and decoding leaves no surrogate.
    """
    return tuple.__new__(ServerSentEvent, (data, event, id, retry))


def parsed_events(data: Iterable[str], event: Iterable[str], id: Iterable[str]) -> list[ServerSentEvent]:
    """
    Build many at once, without a bytecode for each.
    """
    rows = zip(data, event, id, repeat(None))
    return list(map(tuple.__new__, repeat(ServerSentEvent), rows))


def check_text(field: str, text: str, illegal: re.Pattern[str] | None = None) -> str:
    """
    Return a text, and raise unless it can be written into a field.

    :param field: the field's name, for the error.
    :param text: the text.
    :param illegal: what it must not contain, besides lone surrogates.
    :returns: the text; of an instance of a subclass, such as a ``str`` that is an ``Enum`` too, the plain
        text, since what it prints as may be something else.
    :raises InvalidField: where it contains any of it.
    :raises TypeError: where it is no ``str``.
    """
    if not isinstance(text, str):
        more = "; for JSON, give json.dumps(...)" if isinstance(text, dict) else ""
        raise TypeError(f"{field} must be str, not {type(text).__name__}{more}")
    if illegal is not None and (found := illegal.search(text)):
        raise InvalidField(
            field,
            "is not allowed: it would end the field or void it",
            position=found.start(),
            character=found.group(),
        )
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InvalidField(
                field,
                "is not allowed: a lone surrogate has no UTF-8 form",
                position=error.start,
                character=text[error.start],
            ) from None
    return text if type(text) is str else str.__str__(text)


def _check_retry(retry: float) -> None:
    if isinstance(retry, bool) or not isinstance(retry, int | float):
        raise TypeError(f"retry must be a number of seconds, not {type(retry).__name__}")
    # Written so that NaN, for which every comparison is false, is refused as well.
    if not 0 <= retry <= _MAX_RETRY:
        raise InvalidField("retry", f"must be a number of seconds from 0 to {_MAX_RETRY}")
