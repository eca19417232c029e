"""
Arguments of a wrong type are refused where they are given, by an error that names the argument and shows what
to write.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.fakes import Wire
from tests.hub.fakes import World
from txsse import (
    Access,
    Hub,
    Limits,
    MemoryJournal,
    ServerSentEvent,
    SSEResource,
    Update,
    Upgrader,
    encode_event,
)
from txsse._arguments import check_number, wrong_type

UPGRADER = "upgrader must be an Upgrader, such as Upgrader(keepalive=15), not "
JOURNAL = "journal must be an object that provides IJournal, such as SQLiteJournal('hub.sqlite'), not "
TOPICS = "topics must be str, such as 'news', or several of them, not "
EVENT = "event must be a ServerSentEvent, such as ServerSentEvent('data'), not "
PUBLISHED = "event must be a ServerSentEvent, such as ServerSentEvent('data', id='7'), not "

MADE: list[tuple[Callable[[], object], str]] = [
    (lambda: Hub(journal="redis://u:secret@host"), JOURNAL + "str"),  # type: ignore[arg-type]
    (lambda: Hub(journal=MemoryJournal), JOURNAL + "the class MemoryJournal"),  # type: ignore[arg-type]
    (lambda: Hub(upgrader=SSEResource()), UPGRADER + "SSEResource"),  # type: ignore[arg-type]
    (
        lambda: Hub(on_presence="x"),  # type: ignore[arg-type]
        "on_presence must be a callable that takes a topic, a key, and whether it is present, not str",
    ),
    (
        lambda: Hub(presence_topic=5),  # type: ignore[arg-type]
        "presence_topic must be a topic, or a callable that returns one, not int",
    ),
    (
        lambda: Hub(on_topic_opened="x"),  # type: ignore[arg-type]
        "on_topic_opened must be a callable that takes the name of a topic, not str",
    ),
    (lambda: Hub(topic_grace="5"), "topic_grace must be a number of seconds, not str"),  # type: ignore[arg-type]
    (lambda: Hub(max_topics="5"), "max_topics must be a whole number, not str"),  # type: ignore[arg-type]
    (lambda: Hub(max_topics=True), "max_topics must be a whole number, not bool"),
    (lambda: Hub(max_topics=None), "max_topics must be a whole number, not NoneType"),  # type: ignore[arg-type]
    (lambda: Hub(max_update_size=1.5), "max_update_size must be a whole number, not float"),  # type: ignore[arg-type]
    (lambda: MemoryJournal(max_count="5"), "max_count must be a number, not str"),  # type: ignore[arg-type]
    (lambda: MemoryJournal(max_bytes=None), "max_bytes must be a number, not NoneType"),  # type: ignore[arg-type]
    (lambda: MemoryJournal(max_age="1 h"), "max_age must be a number, not str"),  # type: ignore[arg-type]
    (lambda: SSEResource("x"), "handler must be callable with an SSEChannel, not str"),  # type: ignore[arg-type]
    (lambda: SSEResource(upgrader=Upgrader), UPGRADER + "the class Upgrader"),  # type: ignore[arg-type]
    (lambda: Upgrader(keepalive="15"), "keepalive must be a number of seconds, not str"),  # type: ignore[arg-type]
    (lambda: Upgrader(keepalive=True), "keepalive must be a number of seconds, not bool"),
    (lambda: Upgrader(retry="3"), "retry must be a number of seconds, not str"),  # type: ignore[arg-type]
    (lambda: Upgrader(max_buffer="1"), "max_buffer must be a number of bytes, not str"),  # type: ignore[arg-type]
    (lambda: Upgrader(keep_headers=[1]), "keep_headers must be a list of str, not int"),  # type: ignore[list-item]
    (lambda: Upgrader(limits=100), "limits must be a Limits, such as Limits(channels=1000), not int"),  # type: ignore[arg-type]
    (lambda: Upgrader(dumps="x"), "dumps must be callable with a value, such as orjson.dumps, not str"),  # type: ignore[arg-type]
    (lambda: Upgrader(headers=[("X", "y")]), "headers must be a dict, such as {'X-Name': 'value'}, not list"),  # type: ignore[arg-type]
    (lambda: Upgrader(headers={b"X": "y"}), "headers must be a dict of str, not bytes"),  # type: ignore[dict-item]
    (lambda: Upgrader(headers={"X": 5}), "headers must be a dict of str, not int"),  # type: ignore[dict-item]
    (lambda: Limits(channels="5"), "channels must be a whole number, not str"),  # type: ignore[arg-type]
    (lambda: Limits(per_key=5, key="x"), "key must be callable with a request, not str"),  # type: ignore[arg-type]
    (lambda: Limits(retry_after="5"), "retry_after must be a number of seconds, not str"),  # type: ignore[arg-type]
    (lambda: encode_event({}), EVENT + "dict"),  # type: ignore[arg-type]
    (lambda: ServerSentEvent({}), "data must be str, not dict; for JSON, give json.dumps(...)"),  # type: ignore[arg-type]
    (lambda: Update("news", "x"), PUBLISHED + "str"),  # type: ignore[arg-type]
    (lambda: Update(b"news", ServerSentEvent("x", id="1")), TOPICS + "bytes"),  # type: ignore[arg-type]
]

CALLED: list[tuple[Callable[[Any, Any], object], str]] = [
    (lambda hub, channel: hub.publish(b"news", "x"), TOPICS + "bytes"),
    (lambda hub, channel: hub.publish(5, "x"), TOPICS + "int"),
    (lambda hub, channel: hub.publish(None, "x"), TOPICS + "NoneType"),
    (lambda hub, channel: hub.publish([b"news"], "x"), "topics must be str, not bytes"),
    (
        lambda hub, channel: hub.publish("news", {}),
        "data must be str, not dict; for JSON, give json.dumps(...)",
    ),
    (lambda hub, channel: hub.publish_ephemeral(b"news", "x"), TOPICS + "bytes"),
    (
        lambda hub, channel: hub.publish_update(ServerSentEvent("x")),
        "update must be an Update; hub.publish(topics, data) makes one, not ServerSentEvent",
    ),
    (
        lambda hub, channel: hub.subscribe(channel.request, "news"),
        "channel must be an SSEChannel, such as upgrade(request) returns, not StreamRequest",
    ),
    (lambda hub, channel: hub.subscribe(channel, b"news"), TOPICS + "bytes"),
    (lambda hub, channel: hub.resource(b"news"), TOPICS + "bytes; give topics"),
    (lambda hub, channel: hub.stop(farewell="bye"), EVENT + "str"),
    (
        lambda hub, channel: hub.stop(retry=5),
        "retry must be two numbers of seconds, the shortest and the longest, not int",
    ),
    (lambda hub, channel: hub.stop(deadline="5"), "deadline must be a number of seconds, not str"),
    (lambda hub, channel: channel.send_event("x"), EVENT + "str"),
    (lambda hub, channel: channel.send_event(None), EVENT + "NoneType"),
    (lambda hub, channel: channel.send({}), "data must be str, not dict; for JSON, give json.dumps(...)"),
]


@pytest.mark.parametrize(("make", "message"), MADE, ids=[message for _, message in MADE])
def test_constructor_argument(make: Callable[[], object], message: str) -> None:
    """
    A constructor that gets an argument of a wrong type raises TypeError, which names the argument and the
    type and shows no value.
    """
    with pytest.raises(TypeError) as raised:
        make()
    assert str(raised.value) == message


@pytest.mark.slow
@pytest.mark.parametrize(("call", "message"), CALLED, ids=[message for _, message in CALLED])
def test_method_argument(plain: Wire, call: Callable[[Any, Any], object], message: str) -> None:
    """
    A method that gets an argument of a wrong type raises TypeError, publishes nothing and closes nothing.
    """
    world = World(plain)
    member = world.open()
    with pytest.raises(TypeError) as raised:
        call(world.hub, member.channel)
    assert str(raised.value).startswith(message)
    assert member.channel.is_open
    assert world.hub.metrics().published == 0
    world.end()


@pytest.mark.parametrize("topics", [[], (), Access([]), Access([], private="x")])
def test_resource_without_topics(topics: Any) -> None:
    """
    Hub.resource refuses an empty list of topics, from which no client could get an update; a callable may
    return one for a single client.
    """
    with pytest.raises(ValueError, match=r"resource needs a topic: give 'news', \['a', 'b'\], or '\*'"):
        Hub().resource(topics)
    Hub().resource(lambda request: topics)


def test_check_number() -> None:
    """
    check_number accepts a number, or only a whole one if the caller requires that, and refuses a truth value.
    """
    for number in (0, -1, 1.5):
        check_number("x", number)
    check_number("x", 1, whole=True)
    for value, whole in ((True, False), ("1", False), (1.0, True)):
        with pytest.raises(TypeError, match="x must be a number, not"):
            check_number("x", value, whole=whole)
    assert str(wrong_type("x", int, "an int")) == "x must be an int, not the class int"
