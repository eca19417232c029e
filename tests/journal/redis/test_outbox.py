"""
Tests of the outbox, with a fake server and a fake follower.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from twisted.internet.defer import Deferred
from twisted.logger import LogEvent

from tests.hub.fakes import outcome_of
from tests.journal.journals import update
from txsse import JournalFailed
from txsse.errors import RetainedFull
from txsse.journal.redis.codec import Arguments
from txsse.journal.redis.outbox import Outbox
from txsse.journal.redis.recording import Recorded


class Server:
    """
    A fake server: it collects batches, and replies when the test calls back.
    """

    def __init__(self) -> None:
        self.batches: list[Sequence[Arguments]] = []
        self.together: list[bool] = []
        self.waiting: list[Deferred[Sequence[Recorded]]] = []
        self.followed_up_to: float = 0
        self.outbox = Outbox(self.record, lambda: self.followed_up_to)

    def record(self, updates: Sequence[Arguments], together: bool) -> Deferred[Sequence[Recorded]]:
        self.batches.append(updates)
        self.together.append(together)
        self.waiting.append(Deferred())
        return self.waiting[-1]

    def add(self, *ids: str, data: str = "x") -> list[list[object]]:
        """
        Add updates, and send them; return the outcome of each.
        """
        outcomes = [outcome_of(self.outbox.add(update(id, data=data))) for id in ids]
        self.outbox.flush()
        return outcomes


class OutboxTests:
    def test_recorded_and_followed(self) -> None:
        """
        Publishers are notified in the order of positions, when updates are recorded and given to the
        follower.
        """
        server = Server()
        outcomes = server.add("a", "b", "c")
        server.followed_up_to = 5
        server.waiting[0].callback([5, 7, 6])
        assert outcomes == [[5], [], []]
        server.followed_up_to = 6
        server.outbox.fire_followed()
        assert outcomes == [[5], [], [6]]
        server.followed_up_to = 7
        server.outbox.fire_followed()
        assert outcomes == [[5], [7], [6]]

    def test_batches(self) -> None:
        """
        The outbox sends at most 500 updates in one call, and ends a call at 1 MiB.
        """
        server = Server()
        server.add(*map(str, range(1001)))
        assert [len(batch) for batch in server.batches] == [500, 500, 1]
        server = Server()
        server.add(*map(str, range(5)), data="x" * 600_000)
        assert [len(batch) for batch in server.batches] == [2, 2, 1]
        server.outbox.flush()
        assert len(server.batches) == 3

    def test_own(self) -> None:
        """
        The outbox counts the bytes of updates until they are recorded, and holds them until they are
        followed.
        """
        server = Server()
        server.add("a", "é")
        known = server.outbox.own.values()
        assert [each.id for each, _ in known] == ["a", "é"]
        assert [arguments for _, arguments in known] == server.batches[0]
        assert server.outbox.own["é".encode()][0].id == "é"
        assert server.outbox.bytes == sum(len(each.frame) for each, _ in known)
        server.waiting[0].callback([1, 2])
        assert server.outbox.bytes == 0
        assert len(server.outbox.own) == 2
        server.followed_up_to = 2
        server.outbox.fire_followed()
        assert server.outbox.own == {}

    def test_not_recorded(self) -> None:
        """
        If the server fails a call, all updates of this call fail, and those of other calls do not.
        """
        server = Server()
        first, second = server.add("a", "b")
        (third,) = server.add("c")
        error = JournalFailed("x", "is full")
        server.waiting[0].errback(error)
        server.followed_up_to = 1
        server.waiting[1].callback([1])
        assert (first, second, third) == ([error], [error], [1])
        assert server.outbox.bytes == 0
        assert server.outbox.own == {}

    def test_refused(self) -> None:
        """
        A refused update fails with its error, and the others of the call have their positions.
        """
        server = Server()
        first, second, third = server.add("a", "b", "c")
        error = RetainedFull(1, 2)
        server.followed_up_to = math.inf
        server.waiting[0].callback([1, error, 3])
        assert (first, second, third) == ([1], [error], [3])
        assert server.outbox.bytes == 0
        assert server.outbox.own == {}

    def test_session_lost(self) -> None:
        """
        When the session is lost, unsent updates fail; recorded ones succeed, though the follower has not got
        them.
        """
        server = Server()
        recorded, sent = server.add("a", "b")
        server.waiting[0].callback([1, 2])
        unsent = outcome_of(server.outbox.add(update("c")))
        errors = [JournalFailed("x", "is unavailable")]
        server.outbox.lose(errors.pop)
        assert (recorded, sent) == ([1], [2])
        assert isinstance(unsent[0], JournalFailed)
        assert (server.outbox.bytes, server.outbox.own) == (0, {})
        server.followed_up_to = math.inf
        (later,) = server.add("d")
        server.waiting[1].callback([3])
        assert later == [3]

    def test_renamed(self) -> None:
        """
        After a new epoch began, publishers are notified by the new positions of their updates.
        """
        server = Server()
        outcomes = server.add("a", "b")
        server.waiting[0].callback([1, 2])
        server.outbox.rename(lambda position: 20 - position)
        server.followed_up_to = 18
        server.outbox.fire_followed()
        assert outcomes == [[], [18]]
        server.followed_up_to = 19
        server.outbox.fire_followed()
        assert outcomes == [[19], [18]]

    def test_settled(self) -> None:
        """
        The outbox settles when all Deferreds have fired, including those of updates added meanwhile.
        """
        server = Server()
        assert outcome_of(Deferred.fromCoroutine(server.outbox.settle())) == [None]
        server.followed_up_to = math.inf
        server.add("a")
        settled = outcome_of(Deferred.fromCoroutine(server.outbox.settle()))
        server.add("b")
        server.waiting[0].callback([1])
        assert settled == []
        server.waiting[1].callback([2])
        assert settled == [None]

    def test_too_few_positions(self, failures: list[LogEvent]) -> None:
        """
        A reply with fewer positions than updates is logged as a failure.
        """
        server = Server()
        server.add("a", "b")
        server.followed_up_to = math.inf
        server.waiting[0].callback([1])
        assert [event["log_failure"].type for event in failures] == [ValueError]
        failures.clear()

    def test_recording_that_raises(self) -> None:
        """
        If the call that sends updates raises an exception, the publishers' Deferreds fail with it.
        """
        error = MemoryError()

        def record(updates: object, together: bool) -> Deferred[Sequence[Recorded]]:
            raise error

        outbox = Outbox(record, lambda: 0)
        outcome = outcome_of(outbox.add(update("a")))
        outbox.flush()
        assert outcome == [error]
        assert outbox.bytes == 0
        assert outbox.own == {}


class BatchTests:
    def test_batch_among_others(self) -> None:
        """
        A batch is sent in a separate call, between the calls for updates added before and after it.
        """
        server = Server()
        server.followed_up_to = math.inf
        outcomes = [outcome_of(server.outbox.add(update("a")))]
        outcomes += map(outcome_of, server.outbox.add_many([update("b"), update("c")]))
        outcomes += [outcome_of(server.outbox.add(update("d")))]
        server.outbox.flush()
        assert [[each[0] for each in batch] for batch in server.batches] == [[b"a"], [b"b", b"c"], [b"d"]]
        assert server.together == [False, True, False]
        for waiting, positions in zip(server.waiting, ([1], [2, 3], [4]), strict=True):
            waiting.callback(positions)
        assert outcomes == [[1], [2], [3], [4]]
        assert server.outbox.bytes == 0

    def test_server_lost(self) -> None:
        """
        When the server is lost, an unsent batch fails, and is not sent later.
        """
        server = Server()
        outcomes = [outcome_of(server.outbox.add(update("a")))]
        outcomes += map(outcome_of, server.outbox.add_many([update("b"), update("c")]))
        server.outbox.lose(lambda: JournalFailed("x", "is lost"))
        assert all(isinstance(outcome, JournalFailed) for (outcome,) in outcomes)
        server.outbox.flush()
        assert server.batches == []
