"""
Tests of the cluster of a single node.
"""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.logger import LogEvent
from zope.interface.verify import verifyObject

from tests.hub.fakes import outcome_of, result_of
from txsse import InvalidField, JournalFailed, NotAcknowledged
from txsse.journal.cluster import MAX_MESSAGE_BYTES, ICluster, NoCluster


class Listener:
    """
    A fake hub, which records messages, and returns or raises the answer that the test sets.
    """

    def __init__(self, answer: Any = None) -> None:
        self.messages: list[str] = []
        self.answer = answer

    def subscriber_counts(self) -> dict[str, int]:
        return {"*": 5}

    def changed_topics(self) -> set[str]:
        return {"*"}

    def messages_missed(self) -> None:
        raise NotImplementedError

    def message_received(self, message: str) -> Deferred[str | None] | str | None:
        self.messages.append(message)
        if isinstance(self.answer, Exception):
            raise self.answer
        answer: Deferred[str | None] | str | None = self.answer
        return answer


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cluster(clock: Clock) -> NoCluster:
    return NoCluster(reactor=clock)


class NoClusterTests:
    def test_alone(self, cluster: NoCluster) -> None:
        """
        The cluster of a single node has no subscribers and metadata of other nodes.
        """
        assert verifyObject(ICluster, cluster)
        result_of(cluster.start(Listener()))
        assert result_of(cluster.count_subscribers("*")) == 0
        cluster.put_metadata("a", "b")
        assert result_of(cluster.metadata("a")) == []
        assert result_of(cluster.stop()) is None

    @pytest.mark.parametrize(
        ("name", "text"), [("a", ""), ("\ud800", "x"), ("a", "\udfff"), ("\ud800", None)]
    )
    def test_wrong_metadata(self, cluster: NoCluster, name: str, text: str | None) -> None:
        """
        Metadata with an empty text or a lone surrogate raises an error at once.
        """
        with pytest.raises(ValueError):
            cluster.put_metadata(name, text)

    @pytest.mark.parametrize("deferred", [False, True])
    def test_broadcast(self, cluster: NoCluster, clock: Clock, deferred: bool) -> None:
        """
        A broadcast of a single node succeeds when its listener has handled the message.
        """
        listener = Listener(Deferred() if deferred else None)
        cluster.start(listener)
        outcome = outcome_of(cluster.broadcast("a ü"))
        if deferred:
            assert outcome == []
            listener.answer.callback(None)
        assert outcome == [[]]
        assert listener.messages == ["a ü"]
        assert clock.getDelayedCalls() == []

    @pytest.mark.parametrize("deferred", [False, True])
    def test_reply(self, cluster: NoCluster, deferred: bool) -> None:
        """
        A broadcast of a single node returns the reply of its listener.
        """
        cluster.start(Listener(succeed("7") if deferred else "7"))
        assert result_of(cluster.broadcast("a")) == ["7"]

    def test_deadline(self, cluster: NoCluster, clock: Clock, failures: list[LogEvent]) -> None:
        """
        A broadcast of a single node fails if its listener has not handled the message by the deadline.
        """
        cluster.start(Listener(Deferred()))
        outcome = outcome_of(cluster.broadcast("a", deadline=3.0))
        clock.advance(2.9)
        assert outcome == []
        clock.advance(0.1)
        assert isinstance(outcome[0], NotAcknowledged) and outcome[0].nodes == ["this node"]
        assert failures == []

    def test_listener_that_fails(self, cluster: NoCluster, failures: list[LogEvent]) -> None:
        """
        If the listener of a single node raises an exception, the broadcast fails, and the traceback is
        logged.
        """
        cluster.start(Listener(ZeroDivisionError()))
        (error,) = outcome_of(cluster.broadcast("a"))
        assert isinstance(error, NotAcknowledged)
        assert [event["log_failure"].type for event in failures] == [ZeroDivisionError]

    def test_not_started(self, cluster: NoCluster) -> None:
        """
        A broadcast before the cluster is started fails.
        """
        (error,) = outcome_of(cluster.broadcast("a"))
        assert isinstance(error, JournalFailed)

    @pytest.mark.parametrize(
        ("message", "deadline", "error"),
        [
            ("x" * (MAX_MESSAGE_BYTES + 1), 1.0, ValueError),
            ("\ud800", 1.0, InvalidField),
            ("a", 0, ValueError),
            ("a", "1", TypeError),
        ],
    )
    def test_wrong_broadcast(
        self, cluster: NoCluster, message: str, deadline: Any, error: type[Exception]
    ) -> None:
        """
        A broadcast with a wrong message or deadline raises an error at once.
        """
        with pytest.raises(error):
            cluster.broadcast(message, deadline=deadline)
