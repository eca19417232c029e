"""
Tests of the list of revoked tokens in Redis: nodes, outages, limits, damage, and hostile replies.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from operator import attrgetter
from random import Random
from typing import Any, cast

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, gatherResults, succeed
from twisted.logger import LogEvent, formatEvent

from tests.hub.fakes import outcome_of
from tests.journal.journals import Follower, Subject, acknowledged_before_a_kill
from tests.journal.redis.test_journal import fails, problem_of, works
from tests.journal.redis_server import RedisServer
from tests.waiting import until
from txsse import JournalFailed, TooManyRevocations
from txsse.journal.redis import revocations as revocations_module
from txsse.journal.redis import script as script_module
from txsse.journal.redis.replies import Reply
from txsse.journal.redis.revocations import RedisRevocations
from txsse.journal.redis.script import Script
from txsse.journal.redis.session import Session
from txsse.journal.revocations import Revocation, merge

HASH, BY_EXPIRY = "{txsse}:revocations", "{txsse}:revocations:by_expiry"


NAME = attrgetter("claim", "value")


def revoked(subject: Subject, *values: str, seconds: float = 1000.0, at: float = 0.0) -> list[Revocation]:
    now = subject.now()
    return [Revocation("jti", value, now + at, now + seconds) for value in values]


async def add(subject: Subject, *values: str, **times: float) -> list[Revocation]:
    added = revoked(subject, *values, **times)
    await gatherResults([subject.journal.revocations.add(each) for each in added])
    return added


async def load(subject: Subject) -> list[str]:
    return sorted(each.value for each in await subject.journal.revocations.load())


def field_of(value: str) -> bytes:
    return b"jti\xff" + value.encode()


async def command(subject: Subject, *words: str | bytes | int) -> Any:
    """
    Send a command by the journal's own connection.
    """
    return await subject.journal._script.session.commands.ask(*words)


def texts_of(logged: list[LogEvent]) -> list[str]:
    return [text for event in logged if "revoked" in (text := formatEvent(event))]


class NodeTests:
    @pytest_twisted.ensureDeferred
    async def test_shared(self, new: Callable[..., Subject]) -> None:
        """
        A token that one node revokes is in the list of the other one; the later times of both count.
        """
        one, other = new(), new()
        await one.start()
        await other.start()
        (first,) = await add(one, "1")
        assert await other.journal.revocations.load() == [first]
        await add(other, "1", "2", seconds=2000, at=-5)
        found = {each.value: each for each in await one.journal.revocations.load()}
        assert set(found) == {"1", "2"}
        assert found["1"].at == first.at
        assert found["1"].expires > first.expires + 900

    @pytest_twisted.ensureDeferred
    async def test_at_once(self, new: Callable[..., Subject]) -> None:
        """
        If two nodes revoke the same tokens at once, each is in the list once.
        """
        subjects = [new(), new()]
        for subject in subjects:
            await subject.start()
        values = [str(number) for number in range(500)]
        await gatherResults(
            [Deferred.fromCoroutine(add(subject, *values, at=at)) for at, subject in enumerate(subjects)]
        )
        for subject in subjects:
            found = await subject.journal.revocations.load()
            assert sorted(each.value for each in found) == sorted(values)
        assert all(each.at > subject.now() - 100 for each in found)

    @pytest_twisted.ensureDeferred
    async def test_next_process(self, new: Callable[..., Subject]) -> None:
        """
        A node that starts later has the whole list.
        """
        first = new()
        await first.start()
        added = await add(first, "1")
        await first.journal.stop()
        second = new()
        await second.start()
        assert await second.journal.revocations.load() == added

    @pytest.mark.process
    @pytest_twisted.ensureDeferred
    async def test_killed(self, server: RedisServer, new: Callable[..., Subject]) -> None:
        """
        A token that was revoked remains revoked although the node was killed directly afterwards.
        """
        acknowledged = acknowledged_before_a_kill(server.url, module="tests.journal.revoking")
        subject = new()
        await subject.start()
        assert set(acknowledged) <= set(await load(subject))

    @pytest_twisted.ensureDeferred
    async def test_other_keys(self, new: Callable[..., Subject]) -> None:
        """
        Journals with different keys on one Redis have different lists.
        """
        one, other = new(key="one"), new(key="other")
        await one.start()
        await other.start()
        await add(one, "1")
        assert await load(other) == []
        await command(one, "DEL", "{one}:revocations", "{one}:revocations:by_expiry")


class OutageTests:
    @pytest_twisted.ensureDeferred
    async def test_restarted(self, server: RedisServer, new: Callable[..., Subject]) -> None:
        """
        While Redis is unavailable, revoking and loading fail; after its restart, the list is the same.
        """
        subject = new()
        await subject.start()
        added = await add(subject, *map(str, range(1500)))
        server.kill()
        await until(fails(subject))
        for work in (subject.journal.revocations.load(), subject.journal.revocations.add(added[0])):
            error = await problem_of(work)
            assert not error.uncertain
        server.start()
        await until(works(subject))
        assert sorted(await subject.journal.revocations.load(), key=NAME) == sorted(added, key=NAME)

    @pytest_twisted.ensureDeferred
    async def test_lost_before_the_reply(self, server: RedisServer, new: Callable[..., Subject]) -> None:
        """
        If the connection is lost before Redis replies, revoking fails, and the error says that it is not
        known whether the token was revoked.
        """
        subject = new()
        await subject.start()
        server.pause()
        adding = subject.journal.revocations.add(revoked(subject, "1")[0])
        loading = subject.journal.revocations.load()
        server.kill()
        for work in (adding, loading):
            assert (await problem_of(work)).uncertain

    @pytest_twisted.ensureDeferred
    async def test_out_of_memory(
        self, server: RedisServer, new: Callable[..., Subject], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        If Redis has no memory left, revoking fails, and is a problem until a trial succeeds; the refused
        revocation is not recorded afterwards.
        """
        monkeypatch.setattr(script_module, "_TRIAL_INTERVAL", 0.05)
        subject = new()
        await subject.start()
        await add(subject, "1")
        server.ask("CONFIG", "SET", "maxmemory", "1")
        problem = await problem_of(subject.journal.revocations.add(revoked(subject, "2")[0]))
        assert "raise its maxmemory" in problem.problem and not problem.uncertain
        assert "raise its maxmemory" in str(subject.journal.problem)
        assert await load(subject) == ["1"]
        server.ask("CONFIG", "SET", "maxmemory", "0")
        await until(works(subject))
        # Not even the trial's own record is left.
        assert await command(subject, "HLEN", HASH) == await command(subject, "ZCARD", BY_EXPIRY) == 1
        assert await load(subject) == ["1"]

    @pytest_twisted.ensureDeferred
    async def test_stopped(self, new: Callable[..., Subject]) -> None:
        """
        A journal that has been stopped neither records revocations nor loads them.
        """
        subject = new()
        for _ in range(2):
            for work in (
                subject.journal.revocations.load(),
                subject.journal.revocations.add(Revocation("jti", "1", 0, 1)),
            ):
                assert "not started" in (await problem_of(work)).problem
            await subject.start()
            await subject.journal.stop()

    @pytest_twisted.ensureDeferred
    async def test_stopped_before_the_reply(self, new: Callable[..., Subject]) -> None:
        """
        A journal stops after Redis has replied to all revocations, also if it is in no cluster.
        """
        subject = new()
        await subject.journal.start(Follower())
        recorded = [subject.journal.revocations.add(each) for each in revoked(subject, *map(str, range(100)))]
        await subject.journal.stop()
        assert [await each for each in recorded] == [None] * 100


class LimitTests:
    @pytest_twisted.ensureDeferred
    async def test_full(self, new: Callable[..., Subject]) -> None:
        """
        A full list refuses a new revocation until one expires; this is not a problem of the journal.
        """
        subject = new()
        await subject.start()
        revocations = subject.journal.revocations
        revocations._max_count = 3
        await add(subject, "1", seconds=10)
        await add(subject, "2", "3", seconds=100)
        with pytest.raises(TooManyRevocations, match="3 have not expired"):
            await revocations.add(revoked(subject, "4")[0])
        assert subject.journal.problem is None
        await add(subject, "2", seconds=200)
        assert await load(subject) == ["1", "2", "3"]
        subject.advance(50)
        await add(subject, "4")
        assert await load(subject) == ["2", "3", "4"]
        with pytest.raises(TooManyRevocations):
            await revocations.add(revoked(subject, "5")[0])
        assert subject.journal.problem is None

    @pytest.mark.parametrize("how", ["add", "load"])
    @pytest_twisted.ensureDeferred
    async def test_expired(self, server: RedisServer, new: Callable[..., Subject], how: str) -> None:
        """
        Expired revocations are removed from Redis by each call that adds one or loads all, in steps of 1000.
        """
        subject = new()
        await subject.start()
        await add(subject, *map(str, range(1500)), seconds=10)
        await add(subject, "long")
        subject.advance(20)
        sizes = []
        for _ in range(2):
            if how == "add":
                await add(subject, "long")
            else:
                assert await load(subject) == ["long"]
            sizes.append(await command(subject, "HLEN", HASH))
        assert sizes[-1] == 1 and (how == "load" or sizes[0] == 501)
        assert await command(subject, "ZCARD", BY_EXPIRY) == 1

    @pytest_twisted.ensureDeferred
    async def test_expired_and_added_again(self, server: RedisServer, new: Callable[..., Subject]) -> None:
        """
        When a revocation is added again, the times of an expired one that has not been removed do not count.
        """
        subject = new()
        await subject.start()
        await add(subject, *map(str, range(1500)), seconds=10)
        await add(subject, "again", seconds=11, at=9000)
        subject.advance(20)
        added = await add(subject, "again")
        assert await command(subject, "HLEN", HASH) == 501
        assert await subject.journal.revocations.load() == added

    @pytest_twisted.ensureDeferred
    async def test_pages(
        self, server: RedisServer, new: Callable[..., Subject], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        A long list is loaded by many short commands, between which other commands run; revocations that
        are added meanwhile are neither missed nor doubled.
        """
        monkeypatch.setattr(revocations_module, "_PAGE_COUNT", 50)
        subject = new()
        await subject.start()
        values = [f"{number:04}" for number in range(2000)]
        await add(subject, *values)
        server.ask("CONFIG", "RESETSTAT")
        loading = subject.journal.revocations.load()
        await add(subject, *values[:100], at=5.0)
        found = await loading
        assert sorted(each.value for each in found) == values
        statistics = (await command(subject, "INFO", "commandstats")).decode()
        assert int(statistics.partition("cmdstat_hscan:calls=")[2].partition(",")[0]) > 20

    @pytest_twisted.ensureDeferred
    async def test_more_than_the_limit(self, server: RedisServer, new: Callable[..., Subject]) -> None:
        """
        If another program has filled the list far beyond its limit, loading it fails instead of taking all
        memory.
        """
        subject = new()
        await subject.start()
        await add(subject, *map(str, range(10)))
        subject.journal.revocations._max_count = 4
        assert "at most 4 revocations" in (await problem_of(subject.journal.revocations.load())).problem


class DamageTests:
    @pytest.mark.parametrize(
        "junk",
        [
            b"",
            b"x",
            b"0.0 1e300 0123456789abcdef",
            b"\xff\x00 \xff \xff",
            b"x" * 1_000_000,
            b"1 2 3 4",
            lambda field: signed(field, b"nan nan"),
            lambda field: signed(field, b"1"),
            lambda field: signed(field, b"1 x"),
        ],
        ids=lambda junk: "signed" if callable(junk) else str(junk[:20]),
    )
    @pytest_twisted.ensureDeferred
    async def test_value(
        self,
        server: RedisServer,
        new: Callable[..., Subject],
        junk: bytes | Callable[[bytes], bytes],
        logged: list[LogEvent],
    ) -> None:
        """
        A damaged record of a revoked token is skipped, logged once without its content, and can be replaced.
        """
        subject = new()
        await subject.start()
        await add(subject, "1", "secret", "2", seconds=2000)
        field = field_of("secret")
        await command(subject, "HSET", HASH, field, junk(field) if callable(junk) else junk)
        for _ in range(2):
            assert await load(subject) == ["1", "2"]
        (text,) = texts_of(logged)
        assert text == (
            f"<RedisJournal redis://127.0.0.1:{server.port}>: records of revoked tokens are damaged and are "
            "skipped; revoke again the tokens that must not be accepted"
        )
        assert (subject.journal.problem, subject.journal.damaged) == (None, 0)
        (again,) = await add(subject, "secret")
        assert again in await subject.journal.revocations.load()

    @pytest.mark.parametrize("field", [b"", b"jti", b"jti\xff", b"a\xffb\xffc", b"\xfe\xff\xfe", b"\xffx"])
    @pytest_twisted.ensureDeferred
    async def test_field(self, server: RedisServer, new: Callable[..., Subject], field: bytes) -> None:
        """
        A field of another program that does not have a claim and a value is skipped.
        """
        subject = new()
        await subject.start()
        await add(subject, "1")
        await command(subject, "HSET", HASH, field, signed(field, b"1.0 1e300"))
        assert await load(subject) == ["1"]
        await add(subject, "2")
        assert await load(subject) == ["1", "2"]

    @pytest.mark.parametrize("key", [HASH, BY_EXPIRY])
    @pytest_twisted.ensureDeferred
    async def test_key_deleted(self, server: RedisServer, new: Callable[..., Subject], key: str) -> None:
        """
        After another program deletes one of the two keys, the next revocation builds the sorted set anew.
        """
        subject = new()
        await subject.start()
        await add(subject, *map(str, range(1500)))
        await add(subject, "damaged", "soon", seconds=10)
        await command(subject, "HSET", HASH, field_of("damaged"), "junk")
        await command(subject, "DEL", key)
        await add(subject, "new")
        expected = {*map(str, range(1500)), "soon", "new"} if key == BY_EXPIRY else {"new"}
        assert set(await load(subject)) == expected
        for asked in (("HLEN", HASH), ("ZCARD", BY_EXPIRY)):
            assert await command(subject, *asked) == len(expected)
        subject.advance(20)
        await add(subject, "new")
        assert set(await load(subject)) == expected - {"soon"}
        assert await command(subject, "ZCARD", BY_EXPIRY) == len(expected - {"soon"})

    @pytest.mark.parametrize("key", [HASH, BY_EXPIRY])
    @pytest_twisted.ensureDeferred
    async def test_key_of_another_type(
        self,
        server: RedisServer,
        new: Callable[..., Subject],
        key: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """
        If a key of the list has another type, revoking fails with an error of Redis until it is deleted.
        """
        monkeypatch.setattr(script_module, "_TRIAL_INTERVAL", 0.05)
        subject = new()
        await subject.start()
        await command(subject, "SET", key, "x")
        assert (
            "WRONGTYPE"
            in (await problem_of(subject.journal.revocations.add(revoked(subject, "1")[0]))).problem
        )
        await command(subject, "DEL", key)
        await until(works(subject))
        await add(subject, "1")
        assert await load(subject) == ["1"]


def signed(field: bytes, times: bytes) -> bytes:
    """
    Return a value with a valid checksum.
    """
    return times + b" " + hashlib.sha1(field + b" " + times).hexdigest()[:16].encode()


class Hostile:
    """
    A fake session whose server replies with anything.
    """

    def __init__(self, *replies: Any) -> None:
        self.replies = list(replies)
        self.script = Script(self, "redis://x", lambda: 0.0)
        self.script.session_began(cast(Session, self))
        self.revocations = RedisRevocations(self, self.script, lambda: 0.0, max_count=2)

    def run(self, *_: object) -> Deferred[Reply]:
        return succeed(self.replies.pop(0))


class HostileTests:
    @pytest.mark.parametrize("reply", [None, b"1", [], [1]])
    def test_add(self, reply: Any) -> None:
        """
        If the server's reply to a revocation is no number, the error says that it is no Redis.
        """
        hostile = Hostile(reply)
        (error,) = outcome_of(hostile.revocations.add(Revocation("jti", "1", 0, 1)))
        assert isinstance(error, JournalFailed)
        assert "check that the URL is that of a Redis server" in error.problem

    @pytest.mark.parametrize(
        "reply",
        [
            None,
            1,
            b"ab",
            [],
            [b"0"],
            [b"0", []] * 2,
            [0, []],
            [b"0", None],
            [b"0", b"ab"],
            [b"0", [b"a"]],
            [b"0", [b"a", 1]],
            [b"0", [b"a", None]],
            [b"0", [[b"a"], b"b"]],
        ],
    )
    def test_load(self, reply: Any) -> None:
        """
        If the server's reply to a request for the list has another form, the error says that it is no Redis.
        """
        (error,) = outcome_of(Hostile(reply).revocations.load())
        assert isinstance(error, JournalFailed)
        assert "check that the URL is that of a Redis server" in error.problem

    def test_endless(self) -> None:
        """
        Loading a list that never ends fails when it is twice as long as it may be.
        """
        pages = [[b"1", [str(number).encode(), b"x"]] for number in range(100)]
        hostile = Hostile(*pages)
        (error,) = outcome_of(hostile.revocations.load())
        assert isinstance(error, JournalFailed)
        assert len(hostile.replies) == 95

    def test_page_is_decoded_when_it_arrives(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        A long list is decoded page by page, so that it does not block the reactor at the end.
        """
        decoded: list[tuple[bytes, bytes]] = []
        monkeypatch.setattr(revocations_module, "_decode", lambda *record: decoded.append(record))
        hostile = Hostile([b"1", [b"a", b"x"]])
        (error,) = outcome_of(hostile.revocations.load())
        assert isinstance(error, IndexError), "the next page is asked for"
        assert decoded == [(b"a", b"x")]


class ModelTests:
    @pytest.mark.fuzz
    @pytest.mark.parametrize("seed", range(3))
    @pytest_twisted.ensureDeferred
    async def test_random_calls(self, new: Callable[..., Subject], seed: int) -> None:
        """
        After random calls at two nodes, both have exactly the revocations that have not expired.
        """
        random = Random(seed)
        subjects = [new(), new()]
        for subject in subjects:
            await subject.start()
            subject.journal.revocations._max_count = 8
        begin, passed = subjects[0].now(), 0.0
        held: dict[str, Revocation] = {}
        for _ in range(200):
            if random.random() < 0.2:
                passed += 100
                for subject in subjects:
                    subject.advance(100)
            held = {value: each for value, each in held.items() if each.expires > begin + passed}
            # A real clock runs on, and must not decide what has expired.
            at, expires = (begin + passed + 50 + 100 * random.randrange(-3, 10) for _ in range(2))
            added = Revocation("jti", f"{random.choice('0123456789')} \U0001f600", at, expires)
            fits = added.value in held or len(held) < 8
            try:
                await random.choice(subjects).journal.revocations.add(added)
            except TooManyRevocations:
                assert not fits
            else:
                assert fits
                held[added.value] = merge(added, held.get(added.value), begin + passed)
            held = {value: each for value, each in held.items() if each.expires > begin + passed}
            found = await random.choice(subjects).journal.revocations.load()
            assert sorted(found, key=NAME) == sorted(held.values(), key=NAME)
