"""
:class:`ServerSentEvent`: an immutable event, whose constructor rejects every illegal value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from itertools import repeat
from typing import NamedTuple, Self

from txsse._arguments import wrong_type
from txsse.errors import InvalidField
from txsse.protocol.fields import MAX_RETRY_MILLISECONDS, NO_ID, NO_TYPE, read_one_block

__all__ = ["ServerSentEvent", "check_text", "parsed_event", "parsed_events"]

# A CR or LF ends a line. In a field, it would end the field, and begin one of the publisher's choice.
_LINE_END = re.compile("[\r\n]")
# A client ignores an ID with a NUL, and would resume from the previous one.
_LINE_END_OR_NUL = re.compile("[\r\n\0]")

_MAX_RETRY = MAX_RETRY_MILLISECONDS // 1000


class _Fields(NamedTuple):
    data: str
    event: str | None
    id: str | None
    retry: float | None


class ServerSentEvent(_Fields):
    """
    An event, as :func:`txsse.encode_event` encodes it and :class:`txsse.EventStreamParser` returns it.

    It is a named tuple, because other immutable classes take twice as long to construct.

    :param data: the text. Each of its lines becomes a ``data:`` line; CR LF and CR reach the client as LF. An
        empty text is delivered too.
    :param event: the type, which selects the listeners of ``addEventListener``; ``None`` or ``""`` for the
        default, ``message``.
    :param id: the value that the client sends as ``Last-Event-ID`` when it reconnects; ``""`` resets it,
        ``None`` leaves it unchanged. Keep it short, and without spaces at its ends, which a header field
        loses.
    :param retry: the time that the client waits from now on before it reconnects, in seconds.
    :raises InvalidField: for CR or LF in ``event`` or ``id``, NUL in ``id``, a lone surrogate anywhere, or a
        ``retry`` that is negative, not finite or more than 10**12 seconds.
    :raises TypeError: for a field of another type; ``bool`` does not count as a number.

    Source: https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
    """

    __slots__ = ()

    def __new__(  # noqa: D102 (the class documents the arguments)
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
    def parse(cls, text: str | bytes) -> Self:
        r"""
        Parse a text that is one event, as libraries such as ``datastar-py`` return it.

        The rules are those of :class:`txsse.EventStreamParser`. Comments, and empty lines before and after
        the event, are ignored; the empty line that ends it may be missing, and so may the end of its last
        line. For example::

            channel.send_event(ServerSentEvent.parse("event: tick\ndata: 17\n\n"))

        :param text: the text; as ``bytes`` in UTF-8, where each invalid byte becomes U+FFFD.
        :returns: the event. Its type and its ID are ``None`` if the text has none, and its ``retry`` is in
            seconds. Encoded again, it is the same event.
        :raises NotOneEvent: for a text without a ``data`` line, such as only comments, and for a text with
            more than one block of lines.
        :raises InvalidField: for a lone surrogate.
        :raises TypeError: for anything but ``str`` and ``bytes``.
        """
        if isinstance(text, bytes):
            text = text.decode("utf-8", "replace")
        elif not isinstance(text, str):
            raise wrong_type("text", text, "str or bytes, such as 'data: 17\\n\\n'")
        return cls(*read_one_block(text))

    @classmethod
    def _make(cls, iterable: Iterable[object]) -> Self:  # type: ignore[override]
        # The inherited method, which ``_replace`` also uses, would accept illegal values.
        make: Callable[..., Self] = cls
        return make(*iterable)

    def __reduce__(self) -> tuple[type[Self], tuple[object, ...]]:
        # Unpickling with the protocols 0 and 1 would accept illegal values too.
        return type(self), tuple(self)


def parsed_event(data: str, event: str, id: str, retry: float | None) -> ServerSentEvent:
    """
    Build an event from parsed fields, without checks.

    A stream cannot contain illegal values: its lines are split, the parser ignores IDs with NUL, and decoding
    leaves no surrogate.
    """
    return tuple.__new__(ServerSentEvent, (data, event, id, retry))


def parsed_events(data: Iterable[str], event: Iterable[str], id: Iterable[str]) -> list[ServerSentEvent]:
    """
    Build many events like :func:`parsed_event`, without a bytecode for each.
    """
    rows = zip(data, event, id, repeat(None))
    return list(map(tuple.__new__, repeat(ServerSentEvent), rows))


def check_text(field: str, text: str, illegal: re.Pattern[str] | None = None) -> str:
    """
    Check that a text can be written into a field, and return it.

    :param field: the field's name, for the error.
    :param text: the text.
    :param illegal: the characters that the text must not contain, in addition to lone surrogates.
    :returns: the text; for an instance of a subclass, such as a ``str`` that is also an ``Enum``, the plain
        text, since its ``str()`` may differ.
    :raises InvalidField: if the text contains an illegal character.
    :raises TypeError: if the text is not a ``str``.
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
