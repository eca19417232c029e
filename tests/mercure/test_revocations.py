"""
The revoked tokens of a hub: read from its journal, and sent to all nodes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.logger import LogEvent

from tests.fakes import Wire
from tests.hub.fakes import ScriptedJournal, outcome_of, result_of, turn
from tests.hub.test_cut_off import TwoNodes
from tests.mercure.test_disconnect import answer, is_open, read_token
from tests.mercure.world import MercureWorld, Reader
from txsse import CloseReason, Hub, HubStopped, JournalFailed, MemoryJournal, NotAcknowledged
from txsse.hub import cut_off as cut_off_module
from txsse.journal.revocations import Revocation
from txsse.mercure import revocations as module
from txsse.mercure.auth.grants import Grants
from txsse.mercure.revocations import Incomplete, Revocations, revocations_of

TOKEN = read_token(sub="ann")


class Nodes:
    """
    Two hubs with one journal's list of revoked tokens.
    """

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.cluster = TwoNodes()
        self.kept = MemoryJournal(reactor=wire.reactor).revocations
        self.worlds: list[MercureWorld] = []

    def add(self, **settings: Any) -> MercureWorld:
        journal = MemoryJournal(reactor=self.wire.reactor)
        journal.revocations = self.kept
        hub = Hub(
            journal=journal,
            cluster=self.cluster,
            reactor=self.wire.reactor,
            upgrader=self.wire.upgrader(),
        )
        world = MercureWorld(self.wire, hub, anonymous=True, **settings)
        self.worlds.append(world)
        result_of(hub.start())
        return world


@pytest.fixture
def nodes(plain: Wire, monkeypatch: pytest.MonkeyPatch) -> Iterator[Nodes]:
    """
    Return a cluster without nodes.
    """
    monkeypatch.setattr(cut_off_module, "NoCluster", type("Never", (), {}))
    made = Nodes(plain)
    yield made
    for world in made.worlds:
        world.end()
    assert plain.reactor.getDelayedCalls() == []


class Kept:
    """
    A list of revoked tokens whose results the test gives.

    :ivar loads: the results of the calls of ``load``.
    """

    def __init__(self) -> None:
        self.loads: list[Deferred[list[Revocation]]] = []

    def load(self) -> Deferred[list[Revocation]]:
        self.loads.append(Deferred())
        return self.loads[-1]

    def add(self, revocation: Revocation) -> Deferred[None]:
        return succeed(None)


@pytest.fixture
def held(plain: Wire) -> Iterator[tuple[MercureWorld, Kept]]:
    """
    Return a hub, and its journal's list of revoked tokens, which is read when the test says so.
    """
    journal = MemoryJournal(reactor=plain.reactor)
    kept = Kept()
    journal.revocations = kept  # type: ignore[assignment]
    hub = Hub(journal=journal, reactor=plain.reactor, upgrader=plain.upgrader())
    world = MercureWorld(plain, hub, anonymous=True)
    yield world, kept
    world.end()


def close_reason(world: MercureWorld) -> list[CloseReason]:
    return list(world.hub.metrics().closes)


class ClusterTests:
    def test_all_nodes(self, nodes: Nodes) -> None:
        """
        Every node refuses the tokens and closes their streams, and the response counts the streams of all.
        """
        first, second = nodes.add(), nodes.add()
        readers = [world.subscribe("news", token=TOKEN) for world in (first, second, second)]
        assert answer(first.cut_off(sub="ann"))["disconnected"] == 3
        nodes.wire.reactor.run_soon()
        assert not any(map(is_open, readers))
        assert [world.publish("news", token=TOKEN).status for world in (first, second)] == [401, 401]

    def test_token_that_lives_longer_at_another_node(self, nodes: Nodes) -> None:
        """
        The tokens are refused until the last of the streams of all nodes expires, also by the journal.
        """
        first, second = nodes.add(), nodes.add()
        first.subscribe("news", token=read_token(sub="ann", exp=2000))
        second.subscribe("news", token=read_token(sub="ann", exp=5000))
        assert answer(first.cut_off(sub="ann", expires_in="9"))["refused_until"] == "1970-01-01T01:23:20Z"
        [recorded] = result_of(nodes.kept.load())
        assert recorded.expires == 5000
        nodes.wire.reactor.advance(4999)
        for world in (first, second, nodes.add()):
            assert world.publish("news", token=read_token(sub="ann", exp=5000)).status == 401

    def test_many_streams(self, nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        Many streams are closed in slices, between which the reactor does other work.
        """
        monkeypatch.setattr(module, "_SLICE", 2)
        first = nodes.add()
        readers = [first.subscribe("news", token=TOKEN) for _ in range(5)]
        found = revocations_of(first.hub)
        closing = outcome_of(Deferred.fromCoroutine(found.revoke(Revocation("sub", "ann", 0.0, 9000.0))))
        assert closing == [] and first.hub.metrics().closes[CloseReason.DISCONNECTED] == 2
        readers[3].disconnect()
        nodes.wire.reactor.run_soon()
        [outcome] = closing
        assert (outcome.disconnected, outcome.until) == (4, 9000.0)
        assert not any(is_open(reader) for reader in readers if reader is not readers[3])

    def test_log_in_at_another_node(self, nodes: Nodes) -> None:
        """
        The expiry of a token that the revocation does not cover does not count.
        """
        first, second = nodes.add(), nodes.add()
        nodes.wire.reactor.advance(10)
        second.subscribe("news", token=read_token(sub="ann", iat=15, exp=5000))
        assert answer(first.cut_off(sub="ann", expires_in="9"))["refused_until"] == "1970-01-01T00:00:19Z"

    def test_token_without_a_stream_that_lives_longer(self, nodes: Nodes, failures: list[LogEvent]) -> None:
        """
        A revoked token that lives longer than was known is refused until it expires, once it was presented:
        at all nodes, and at those that start later.
        """
        first, second = nodes.add(), nodes.add()
        answer(first.cut_off(sub="ann", expires_in="9"))
        messages = len(nodes.cluster.messages)
        for _ in range(3):
            assert second.publish("news", token=read_token(sub="ann", exp=5000)).status == 401
        assert len(nodes.cluster.messages) == messages + 1
        nodes.wire.reactor.advance(4999)
        for world in (first, second, nodes.add()):
            assert world.publish("news", token=read_token(sub="ann", exp=5000)).status == 401
        assert failures == []

    def test_longer_life_that_cannot_be_spread(
        self, nodes: Nodes, failures: list[LogEvent], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        If a longer revocation cannot be recorded, this node keeps to it; unexpected errors are logged.
        """
        first = nodes.add()
        answer(first.cut_off(sub="ann", expires_in="9"))
        nodes.cluster.error = JournalFailed("redis", "lost")
        monkeypatch.setattr(nodes.kept, "add", lambda revocation: fail(JournalFailed("redis", "lost")))
        assert first.publish("news", token=read_token(sub="ann", exp=5000)).status == 401
        assert failures == []
        monkeypatch.setattr(nodes.kept, "add", lambda revocation: fail(RuntimeError("fault")))
        assert first.publish("news", token=read_token(sub="ann", exp=6000)).status == 401
        [failure] = failures
        assert failure["log_failure"].check(RuntimeError)
        failures.clear()
        nodes.wire.reactor.advance(5999)
        assert first.publish("news", token=read_token(sub="ann", exp=6000)).status == 401

    def test_later_node(self, nodes: Nodes) -> None:
        """
        A node that starts later refuses the tokens, too.
        """
        answer(nodes.add().cut_off(sub="ann"))
        later = nodes.add()
        assert later.publish("news", token=TOKEN).status == 401
        assert later.publish("news", token=read_token(sub="bob")).status == 200

    def test_node_that_does_not_answer(self, nodes: Nodes) -> None:
        """
        If a node does not answer, the response is 503 and names it, and everything else has been done.
        """
        first = nodes.add()
        second = nodes.add()
        readers = [world.subscribe("news", token=TOKEN) for world in (first, second)]
        nodes.cluster.error = NotAcknowledged(["node 3"])
        client = first.cut_off(sub="ann")
        assert client.status == 503
        text = client.body.decode()
        assert "these nodes may accept the tokens: node 3" in text
        assert "these nodes may have open streams: node 3" in text
        assert text.endswith("; whatever is not named here has been done\n")
        nodes.wire.reactor.run_soon()
        assert not any(map(is_open, readers))
        assert first.publish("news", token=TOKEN).status == 401
        nodes.cluster.error = None
        assert answer(first.cut_off(sub="ann"))["disconnected"] == 0

    def test_other_nodes_out_of_reach(self, nodes: Nodes) -> None:
        """
        If the other nodes cannot be reached, the response is 503 and says so, and this node has done its
        part.
        """
        first = nodes.add()
        reader = first.subscribe("news", token=TOKEN)
        nodes.cluster.error = JournalFailed("redis", "lost")
        client = first.cut_off(sub="ann")
        assert client.status == 503
        assert (
            b"the other nodes may accept the tokens, as they cannot be reached; the other nodes may have open"
            in client.body
        )
        nodes.wire.reactor.run_soon()
        assert not is_open(reader)
        assert first.publish("news", token=TOKEN).status == 401

    def test_hub_that_stops_meanwhile(self, nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        If the hub stops before the nodes have closed the streams that were being opened, the response is 503
        and says so; open streams have been closed before.
        """
        first, second = nodes.add(), nodes.add()
        readers = [world.subscribe("news", token=TOKEN) for world in (first, second)]
        monkeypatch.setattr(first.hub, "disconnect", lambda key: fail(HubStopped()))
        client = first.cut_off(sub="ann")
        assert client.status == 503
        assert b"other nodes may have open streams, as this one is shutting down" in client.body
        nodes.wire.reactor.run_soon()
        assert not any(map(is_open, readers))

    def test_full_list(self, nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        If the list is full, the response is 503 and says what to do, once; and the streams are closed.
        """
        first = nodes.add()
        reader = first.subscribe("news", token=TOKEN)
        revocations = revocations_of(first.hub)
        monkeypatch.setattr(revocations._revoked, "_max_count", 0)
        monkeypatch.setattr(nodes.kept, "_max_count", 0)
        nodes.cluster.listeners.clear()
        client = first.cut_off(sub="ann")
        assert client.status == 503
        assert client.body.count(b"the list of revoked tokens is full") == 1
        assert b"issue tokens that expire sooner" in client.body
        assert len(revocations._revoked) == 0
        assert not is_open(reader) or first.hub.metrics().channels == 1

    @pytest.mark.parametrize(
        "message",
        [
            "",
            "null",
            "[]",
            '"revoked"',
            "{}",
            '{"revoked": 1}',
            '{"revoked": []}',
            '{"revoked": ["sub", "", 1, 2]}',
            '{"revoked": ["sub", "ann", "1", 2]}',
            '{"revoked": ["sub", "ann", 1, 2, 3]}',
            '{"revoked": ["sub", "\\ud800", 1, 2]}',
            "[" * 100_000,
        ],
    )
    def test_other_messages(self, nodes: Nodes, message: str) -> None:
        """
        A message of another kind is left to other parts of the hub.
        """
        assert Revocations(nodes.add().hub).message_received(message) is None

    def test_message(self, nodes: Nodes) -> None:
        """
        The message has the claim, its value and the times; the reply is the latest expiry of this node's
        streams, and their number.
        """
        world = nodes.add()
        world.subscribe("news", token=read_token(jti="t1", exp=700))
        message = json.dumps({"revoked": ["jti", "t1", 0, 90]})
        found = revocations_of(world.hub)
        assert result_of(found.message_received(message) or fail(AssertionError())) == "[700.0, 1]"
        other = json.dumps({"revoked": ["jti", "t2", 0, 90]})
        assert result_of(found.message_received(other) or fail(AssertionError())) == "[0.0, 0]"


class LoadTests:
    def test_until_it_is_read(self, held: tuple[MercureWorld, Kept]) -> None:
        """
        Until the list has been read, requests with a token wait, and those without one do not.
        """
        world, kept = held
        waiting = [world.subscribe("news", token=TOKEN), world.subscribe("news", token=read_token())]
        publishing = world.publish("news", "a")
        assert [each.status for each in waiting] == [0, 0] and publishing.status == 0
        assert world.subscribe("news").status == 200
        [load] = kept.loads
        load.callback([Revocation("sub", "ann", at=0.0, expires=9000.0)])
        world.reactor.run_soon()
        for client in (waiting[0].client, waiting[1].client, publishing):
            client.pump()
        assert [each.status for each in waiting] == [401, 200]
        assert publishing.status == 200
        assert world.publish("news", token=TOKEN).status == 401
        assert len(kept.loads) == 1

    def test_journal_unavailable(self, held: tuple[MercureWorld, Kept]) -> None:
        """
        While the list cannot be read, requests with a token get 503, and each tries again; an invalid token
        gets 401.
        """
        world, kept = held
        for number in (1, 2):
            client, reader = world.publish("news"), world.subscribe("news", token=TOKEN)
            assert len(kept.loads) == number
            kept.loads[-1].errback(JournalFailed("redis", "lost"))
            world.reactor.run_soon()
            for each in (client, reader.client):
                each.pump()
                assert each.status == 503
                assert each.body == b"the list of revoked tokens is currently unavailable\n"
                assert each.headers["retry-after"] == "5"
        assert world.publish("news", token="a.b.c").status == 401
        client = world.publish("news")
        kept.loads[-1].callback([])
        world.reactor.run_soon()
        client.pump()
        assert client.status == 200

    def test_unexpected_error(self, held: tuple[MercureWorld, Kept], failures: list[LogEvent]) -> None:
        """
        If a journal raises an unexpected error, requests with a token get 503, and the log has the error.
        """
        world, kept = held
        client = world.publish("news")
        kept.loads[0].errback(RuntimeError("fault"))
        world.reactor.run_soon()
        client.pump()
        assert client.status == 503
        assert b"cannot be read; see the log of the hub" in client.body
        [failure] = failures
        assert failure["log_failure"].check(RuntimeError)
        failures.clear()

    def test_journal_that_does_not_start(self, plain: Wire) -> None:
        """
        A hub whose journal cannot be started refuses tokens with 503 until it can, and serves anonymous
        streams.
        """
        journal = ScriptedJournal(reactor=plain.reactor)
        journal.errors["start"] = JournalFailed("redis", "refused")
        world = MercureWorld(plain, Hub(journal=journal, reactor=plain.reactor), anonymous=True)
        assert world.subscribe("news", token=TOKEN).status == 503
        assert world.cut_off(sub="ann").status == 503
        anonymous = world.subscribe("news")
        assert anonymous.status == 200
        del journal.errors["start"]
        assert is_open(world.subscribe("news", token=TOKEN))
        # The stream that was opened before is live as soon as its replay has tried again.
        plain.reactor.advance(60)
        assert world.publish("news", "a").status == 200
        assert anonymous.texts == ["a"]
        world.end()

    def test_message_without_a_list(self, plain: Wire, failures: list[LogEvent]) -> None:
        """
        A hub whose journal keeps no list refuses tokens that another node has revoked, as long as it says.
        """
        journal = ScriptedJournal(reactor=plain.reactor)
        del journal.revocations
        world = MercureWorld(plain, Hub(journal=journal, reactor=plain.reactor))
        result_of(world.hub.start())
        result_of(world.hub.cluster.broadcast(json.dumps({"revoked": ["sub", "ann", 0, 90]})))
        assert world.publish("news", token=TOKEN).status == 401
        plain.reactor.advance(90)
        assert world.publish("news", token=TOKEN).status == 200
        assert failures == []
        world.end()

    def test_message_while_it_is_read(self, held: tuple[MercureWorld, Kept]) -> None:
        """
        A revocation that arrives while the list is being read counts.
        """
        world, kept = held
        client = world.publish("news", token=TOKEN)
        result_of(world.hub.cluster.broadcast(json.dumps({"revoked": ["sub", "ann", 0, 9000]})))
        kept.loads[0].callback([])
        world.reactor.run_soon()
        client.pump()
        assert client.status == 401

    def test_stopped_hub(self, held: tuple[MercureWorld, Kept]) -> None:
        """
        A hub that has been stopped before the list was read ends streams at once, so that browsers reconnect.
        """
        world, _ = held
        world.hub.stop()
        world.reactor.run_soon()
        reader = world.subscribe("news", token=TOKEN)
        assert reader.status == 200 and reader.client.ended
        assert world.publish("news").status == 503

    def test_client_that_disconnects(self, held: tuple[MercureWorld, Kept], failures: list[LogEvent]) -> None:
        """
        A client that disconnects while the list is being read does not prevent that others use it.
        """
        world, kept = held
        reader, client = world.subscribe("news", token=read_token()), world.publish("news")
        reader.disconnect()
        kept.loads[0].callback([])
        world.reactor.run_soon()
        client.pump()
        assert client.status == 200
        assert failures == []

    def test_cancelled(self, held: tuple[MercureWorld, Kept]) -> None:
        """
        A cancelled check fails as cancelled.
        """
        world, _ = held
        found = revocations_of(world.hub)
        checking = Deferred.fromCoroutine(found.check(Grants()))
        outcome = outcome_of(checking)
        checking.cancel()
        assert isinstance(outcome[0], CancelledError)

    def test_node_of_a_cluster(
        self, held: tuple[MercureWorld, Kept], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        A node reads the list two turns of the reactor after it has started, when it has joined its cluster.
        """
        monkeypatch.setattr(module, "NoCluster", type("Never", (), {}))
        world, kept = held
        checking = outcome_of(Deferred.fromCoroutine(revocations_of(world.hub).check(Grants())))
        for _ in range(2):
            assert kept.loads == []
            turn(world.reactor)
        kept.loads[0].callback([])
        assert checking == [None]


class MissedTests:
    def test_missed_messages(self, held: tuple[MercureWorld, Kept]) -> None:
        """
        A node that may have missed revocations closes the streams that have a key, and reads the list again
        before it accepts tokens.
        """
        world, kept = held
        streams = [world.subscribe("news", token=each) for each in (TOKEN, read_token(sub="bob"))]
        anonymous = world.subscribe("news")
        kept.loads[0].callback([])
        world.reactor.run_soon()
        assert all(map(is_open, streams))
        world.hub.node.messages_missed()
        world.reactor.run_soon()
        assert [is_open(each) for each in (*streams, anonymous)] == [False, False, True]
        again = [world.subscribe("news", token=each) for each in (TOKEN, read_token(sub="bob"))]
        assert [each.status for each in again] == [0, 0]
        assert len(kept.loads) == 2
        kept.loads[1].callback([Revocation("sub", "ann", at=0.0, expires=9000.0)])
        world.reactor.run_soon()
        assert [is_open(each) for each in again] == [False, True]
        assert again[0].status == 401

    def test_long_list(self, held: tuple[MercureWorld, Kept], monkeypatch: pytest.MonkeyPatch) -> None:
        """
        A long list is added in slices: the reactor has its turn in between, and no token is accepted before
        its end.
        """
        monkeypatch.setattr(module, "_LOADED_SLICE", 2)
        world, kept = held
        client = world.publish("news", token=TOKEN)
        users = ("zoe", "yan", "xi", "wes", "ann")
        kept.loads[0].callback([Revocation("sub", user, at=0.0, expires=9000.0) for user in users])
        found = revocations_of(world.hub)
        assert (len(found._revoked), found._is_complete) == (2, False)
        turn(world.reactor)
        assert (len(found._revoked), found._is_complete) == (4, False)
        world.reactor.run_soon()
        client.pump()
        assert (len(found._revoked), client.status) == (5, 401)

    def test_missed_while_it_is_read(self, held: tuple[MercureWorld, Kept]) -> None:
        """
        If messages are missed while the list is being read, it is read once more.
        """
        world, kept = held
        client = world.publish("news", token=TOKEN)
        world.hub.node.messages_missed()
        kept.loads[0].callback([])
        world.reactor.run_soon()
        client.pump()
        assert client.status == 0
        kept.loads[1].callback([Revocation("sub", "ann", at=0.0, expires=9000.0)])
        world.reactor.run_soon()
        client.pump()
        assert client.status == 401

    def test_list_that_cannot_be_read(
        self, held: tuple[MercureWorld, Kept], failures: list[LogEvent]
    ) -> None:
        """
        If the list cannot be read again, tokens are refused with 503 until a later request succeeds.
        """
        world, kept = held
        world.publish("news")
        kept.loads[0].callback([])
        world.hub.node.messages_missed()
        kept.loads[1].errback(JournalFailed("redis", "lost"))
        client = world.publish("news")
        kept.loads[2].errback(JournalFailed("redis", "lost"))
        world.reactor.run_soon()
        client.pump()
        assert client.status == 503
        client = world.publish("news")
        kept.loads[3].callback([])
        world.reactor.run_soon()
        client.pump()
        assert client.status == 200
        assert failures == []

    def test_stream_that_is_open(self, held: tuple[MercureWorld, Kept]) -> None:
        """
        When the list is read, open streams that it concerns are closed: those whose tokens it refuses.
        """
        world, kept = held
        tokens = [TOKEN, read_token(sub="ann", iat=50), read_token(sub="bob"), read_token(jti="t1")]
        streams = [world.subscribe("news", token=each) for each in tokens]
        kept.loads[0].callback([Revocation("sub", "zoe", at=0.0, expires=9000.0)])
        world.reactor.run_soon()
        found = revocations_of(world.hub)
        found._is_complete = False
        client = world.publish("news")
        kept.loads[1].callback(
            [
                Revocation("sub", "zoe", at=0.0, expires=9000.0),
                Revocation("sub", "ann", at=0.0, expires=9000.0),
                Revocation("jti", "t1", at=0.0, expires=9000.0),
                Revocation("sid", "s1", at=0.0, expires=9000.0),
            ]
        )
        world.reactor.run_soon()
        client.pump()
        assert client.status == 200
        assert [is_open(each) for each in streams] == [False, True, True, False]
        assert close_reason(world) == [CloseReason.DISCONNECTED]

    def test_stream_that_cannot_be_closed(
        self, held: tuple[MercureWorld, Kept], failures: list[LogEvent], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        A stream that cannot be closed is logged, and the list is used all the same.
        """
        world, kept = held
        world.subscribe("news", token=TOKEN)
        kept.loads[0].callback([])
        world.reactor.run_soon()

        def disconnect(subscriber: Any) -> None:
            raise RuntimeError("fault")

        monkeypatch.setattr(module, "disconnect", disconnect)
        revocations_of(world.hub)._is_complete = False
        client = world.publish("news", token=TOKEN)
        kept.loads[1].callback([Revocation("sub", "ann", at=0.0, expires=9000.0)])
        world.reactor.run_soon()
        client.pump()
        assert client.status == 401
        [failure] = failures
        assert failure["log_failure"].check(RuntimeError)
        failures.clear()

    def test_channel_of_the_program(self, world: MercureWorld) -> None:
        """
        A stream that the program itself subscribed with the key is closed, whatever its context is.
        """
        reader = world.subscribe("news", token=TOKEN)
        [subscriber] = world.hub.subscribers.with_key("ann")
        subscriber.channel.context = "other"
        assert answer(world.cut_off(sub="ann", expires_in="5")) == {
            "disconnected": 1,
            "refused_until": "1970-01-01T00:00:05Z",
        }
        assert isinstance(reader, Reader)


class SharedTests:
    def test_one_for_a_hub(self, world: MercureWorld) -> None:
        """
        All Mercure resources of a hub share its revoked tokens.
        """
        assert revocations_of(world.hub) is revocations_of(world.hub)
        assert issubclass(Incomplete, Exception)
