"""
Calls from a thread that is not the reactor's raise an error that says what to write instead.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from threading import Thread, get_ident
from typing import Any

import pytest
from twisted.python import threadable

from tests.fakes import FakeReactor, Wire
from tests.hub.fakes import World
from txsse import ServerSentEvent, Update, broadcast

CALLS: dict[str, Callable[[Any, Any, Any], object]] = {
    "channel.send": lambda hub, channel, _: channel.send("x"),
    "channel.send_event": lambda hub, channel, _: channel.send_event(ServerSentEvent("x")),
    "channel.send_json": lambda hub, channel, _: channel.send_json({}),
    "channel.comment": lambda hub, channel, _: channel.comment("x"),
    "channel.send_from": lambda hub, channel, _: channel.send_from(["x"]),
    "channel.drain": lambda hub, channel, _: channel.drain(),
    "channel.close": lambda hub, channel, _: channel.close(),
    "channel.abort": lambda hub, channel, _: channel.abort(),
    "channel.when_closed": lambda hub, channel, _: channel.when_closed(),
    "broadcast": lambda hub, channel, _: broadcast([channel], "x"),
    "hub.publish": lambda hub, *_: hub.publish("news", "x"),
    "hub.publish_update": lambda hub, *_: hub.publish_update(Update("news", ServerSentEvent("x", id="1"))),
    "hub.publish_ephemeral": lambda hub, *_: hub.publish_ephemeral("news", "x"),
    "hub.subscribe": lambda hub, channel, _: hub.subscribe(channel, "news"),
    "hub.count_subscribers": lambda hub, *_: hub.count_subscribers(),
    "hub.resume_id": lambda hub, *_: hub.resume_id(),
    "hub.start": lambda hub, *_: hub.start(),
    "hub.stop": lambda hub, *_: hub.stop(),
    "subscriber.unsubscribe": lambda hub, channel, subscriber: subscriber.unsubscribe(),
}

# The method that the error names, if it is not the one that was called.
NAMED = dict.fromkeys(["channel.send_event", "channel.send_json", "channel.comment"], "channel.send")

REMEDIES = {"hub.publish": r"hub\.publish_from_thread\(topics, data, \.\.\.\)"}


def in_thread(call: Callable[[], object]) -> list[Exception]:
    """
    Call a function in a thread, and return the exceptions that it raised.
    """
    raised: list[Exception] = []

    def run() -> None:
        try:
            call()
        except Exception as error:
            raised.append(error)

    thread = Thread(target=run)
    thread.start()
    thread.join()
    return raised


def call_in_thread(world: World, name: str) -> list[Exception]:
    member, free = world.join(), world.open()
    (subscriber,) = world.hub.subscribers
    channel = free.channel
    raised = in_thread(lambda: CALLS[name](world.hub, channel, subscriber))
    if raised:
        # The call had no effect.
        assert member.channel.is_open and channel.is_open and subscriber.is_subscribed
        assert channel.watcher is None
        assert member.events + free.events == []
        assert world.hub.metrics().published == 0
    return raised


@pytest.fixture
def world(plain: Wire) -> Iterator[World]:
    made = World(plain)
    yield made
    made.end()


@pytest.fixture
def running(plain: Wire, monkeypatch: pytest.MonkeyPatch) -> FakeReactor:
    """
    Make the fake reactor that of the process, and run it in this thread.
    """
    monkeypatch.setattr(threadable, "ioThread", get_ident())
    monkeypatch.setitem(sys.modules, "twisted.internet.reactor", plain.reactor)
    return plain.reactor


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.usefixtures("running")
def test_wrong_thread(world: World, name: str) -> None:
    """
    A call from another thread than the reactor's raises RuntimeError, names the remedy, and has no effect.
    """
    (error,) = call_in_thread(world, name)
    assert isinstance(error, RuntimeError)
    named = NAMED.get(name, name)
    remedy = REMEDIES.get(name, rf"reactor\.callFromThread\({named}, \.\.\.\)")
    with pytest.raises(RuntimeError, match=rf"^{named} was called from a thread .* write {remedy}$"):
        raise error


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.usefixtures("running")
def test_right_thread(world: World, name: str) -> None:
    """
    A call from the reactor's thread raises nothing.
    """
    world.join()
    (subscriber,) = world.hub.subscribers
    CALLS[name](world.hub, world.open().channel, subscriber)


@pytest.mark.parametrize("name", CALLS)
def test_reactor_does_not_run_yet(world: World, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Before the reactor runs, its thread is unknown, and calls from any thread are accepted.
    """
    monkeypatch.setattr(threadable, "ioThread", None)
    monkeypatch.setitem(sys.modules, "twisted.internet.reactor", world.reactor)
    assert call_in_thread(world, name) == []


@pytest.mark.parametrize("name", CALLS)
def test_another_reactor(world: World, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A fake clock has no thread: calls from any thread are accepted, even while the process's reactor runs.
    """
    monkeypatch.setattr(threadable, "ioThread", get_ident())
    assert call_in_thread(world, name) == []


@pytest.mark.usefixtures("running")
def test_first_use(plain: Wire) -> None:
    """
    The first call of a hub from a wrong thread raises RuntimeError, and does not start the hub.
    """
    world = World(plain)
    (error,) = in_thread(lambda: world.hub.publish("news", "x"))
    assert isinstance(error, RuntimeError)
    assert world.hub._distribution is None
