"""
Tests of the retained updates in Redis, with a real Redis: nodes, limits, outages, and damage.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from random import Random
from typing import Any, cast

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults, succeed
from twisted.internet.task import Clock, deferLater
from twisted.logger import LogEvent, formatEvent

from tests.fakes import FakeReactor
from tests.hub.fakes import outcome_of
from tests.journal.journals import Follower, Subject, update
from tests.journal.redis.test_journal import change, fails, problem_of, works
from tests.journal.redis.test_limits import limits
from tests.journal.redis.test_retained_rows import signed, stored_row
from tests.journal.redis.test_revocations import command
from tests.journal.redis_server import RedisServer
from tests.waiting import until
from txsse import JournalFailed, MemoryJournal, ServerSentEvent, Update
from txsse.errors import NotRetained, RetainedFull
from txsse.journal.redis import retained as retained_module
from txsse.journal.redis import retained_loading
from txsse.journal.redis.replies import Reply
from txsse.journal.redis.retained import RedisRetained
from txsse.journal.redis.script import Script
from txsse.journal.redis.session import Session
from txsse.journal.redis.stream_ids import Epochs
from txsse.journal.retained import Retained
from txsse.journal.retention import UNRETAIN_TYPE, Retention

HASH, BY_EXPIRY, META = "{txsse}:retained", "{txsse}:retained:by_expiry", "{txsse}:meta"

# After all positions.
END = 1 << 1000


def retaining(
    id: str, key: str, data: str = "x", topics: Any = "news", *, owner: str | None = None, seconds: Any = None
) -> Update:
    return Update(topics, ServerSentEvent(data, id=id), retention=Retention(key, seconds, owner))


def removing(id: str, key: str, topics: Any = "news") -> Update:
    return Update(topics, ServerSentEvent(key, UNRETAIN_TYPE, id), retention=Retention(key))


async def append(subject: Subject, *updates: Update) -> None:
    await gatherResults([subject.journal.append(each) for each in updates])


async def rows_of(subject: Any, topics: Collection[str] | None = None) -> list[Retained]:
    """
    Read all retained updates of a journal.
    """
    retained = (subject.journal if isinstance(subject, Subject) else subject).retained
    found: list[Retained] = []
    after = 0
    while after < END:
        page = await retained.read(topics, after, END)
        found += [row for _, row in page.entries]
        after = page.end
    assert [each.position for each in found] == sorted({each.position for each in found})
    return found


async def keys_of(subject: Subject) -> str:
    """
    Return the keys of all retained updates, in the order of their positions.
    """
    return " ".join(row.key for row in await rows_of(subject))


async def followed(*subjects: Subject) -> None:
    """
    Wait until all nodes were given the same updates.
    """
    await until(lambda: len({each.journal.head for each in subjects}) == 1)


async def totals(subject: Subject) -> tuple[int, int, int]:
    """
    Return the totals that Redis has: the numbers of members of the hash and the sorted set, and the bytes.
    """
    text = (await command(subject, "HGET", META, "retained")).decode()
    count, expiring, size, _ = map(str, text.split())
    assert int(count) == await command(subject, "HLEN", HASH)
    assert int(expiring) == await command(subject, "ZCARD", BY_EXPIRY)
    return int(count), int(expiring), int(size)


def is_stale(subject: Subject) -> bool:
    # Not even when nothing is retained.
    return bool(subject.journal.retained._is_stale)


def reconnects(subject: Subject, session: Any) -> Callable[[], bool]:
    return lambda: subject.journal._script.session not in (None, session)


async def cut(subject: Subject) -> None:
    """
    Make a node reconnect.
    """
    session = subject.journal._script.session
    session.commands.cut()
    await until(reconnects(subject, session))


class ClusterTests:
    @pytest_twisted.ensureDeferred
    async def test_shared(self, new: Callable[..., Subject]) -> None:
        """
        Each node has the updates that any node retains, before its hub is given them.
        """
        one, other = new(), new()
        follower = await other.start()
        await one.start()
        found: list[Retained | None] = []
        given = follower.update_appended

        def look(entry: tuple[int, Update]) -> None:
            given(entry)
            found.append(other.journal.retained.find("news", "a"))

        follower.update_appended = look  # type: ignore[method-assign]
        await append(one, retaining("1", "a", "1", owner="me", seconds=500), update("2"), removing("3", "a"))
        await followed(one, other)
        assert [each and each.frame for each in found] == [b"data: 1\n\n", b"data: 1\n\n", None]
        await append(other, retaining("4", "b", "\0 ü", ("a", "ü \0"), seconds=500, owner="ß"))
        await followed(one, other)
        assert await rows_of(one) == await rows_of(other)
        third = new()
        await third.start()
        assert await rows_of(third) == await rows_of(one)
        assert third.journal.retained.owned("ß") == 2

    @pytest_twisted.ensureDeferred
    async def test_complete_after_the_start(self, new: Callable[..., Subject]) -> None:
        """
        A node has all retained updates when it has started, so that quotas count them at once.
        """
        one, other = new(), new()
        await one.start()
        await append(one, *(retaining(str(number), str(number), owner="me") for number in range(1500)))
        await other.start()
        retained = other.journal.retained
        assert (retained.count, retained.owned("me"), is_stale(other)) == (1500, 1500, False)
        assert (retained.size, retained.changed_at) == (one.journal.retained.size, one.journal.head)
        assert list(retained.topics()) == ["news"]
        assert not retained.is_empty

    @pytest_twisted.ensureDeferred
    async def test_joined_while_others_publish(
        self, new: Callable[..., Subject], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        A node that starts while others retain and remove has the same as they, though it reads many pages.
        """
        monkeypatch.setattr(retained_loading, "_PAGE_COUNT", 20)
        one = new()
        await one.start()
        await append(one, *(retaining(str(number), str(number)) for number in range(1000)))
        random = Random(1)
        kept = set(range(1000))
        other = new()
        starting = other.start()
        started = Deferred.fromCoroutine(starting)
        count = 0
        while not started.called or is_stale(other):
            for _ in range(5):
                count += 1
                key = random.randrange(1000)
                if key in kept and random.random() < 0.5:
                    kept.discard(key)
                    one.journal.append(removing(f"id {count}", str(key)))
                else:
                    kept.add(key)
                    one.journal.append(retaining(f"id {count}", str(key), str(count)))
            await deferLater(reactor, 0)
        await one.append("end")
        await followed(one, other)
        assert count > 10
        assert {int(row.key) for row in await rows_of(other)} == kept
        assert await rows_of(other) == await rows_of(one)

    @pytest_twisted.ensureDeferred
    async def test_other_keys(self, new: Callable[..., Subject]) -> None:
        """
        Journals with different key prefixes share no retained updates.
        """
        first, second = new(key="a"), new(key="b")
        await first.start()
        await append(first, retaining("1", "x"))
        await second.start()
        assert await rows_of(second) == []
        assert second.journal.retained.is_empty
        await command(first, "DEL", "{a}:retained", "{a}:updates", "{a}:ids", "{a}:meta")

    @pytest_twisted.ensureDeferred
    async def test_started_again(self, new: Callable[..., Subject]) -> None:
        """
        A journal that is stopped and started again has the retained updates of the record.
        """
        subject, other = new(), new()
        await subject.start()
        await other.start()
        await append(subject, retaining("1", "a"))
        await subject.journal.stop()
        await append(other, retaining("2", "b"), removing("3", "a"))
        await subject.start()
        assert await keys_of(subject) == "b"

    @pytest_twisted.ensureDeferred
    async def test_equal_update(self, new: Callable[..., Subject]) -> None:
        """
        An equal update with its retention is a no-op at every node; one with another retention is not.
        """
        one, other = new(), new()
        await one.start()
        await other.start()
        first = retaining("1", "a", seconds=500)
        position = await one.journal.append(first)
        assert await other.journal.append(first) == position
        positions = [
            await other.journal.append(each)
            for each in (
                update("1"),
                retaining("1", "a"),
                retaining("1", "b", seconds=500),
                retaining("1", "a", seconds=500, owner=""),
                first,
            )
        ]
        assert sorted({position, *positions}) == [position, *positions]
        assert await other.journal.append(first) == positions[-1]
        await followed(one, other)
        assert await keys_of(one) == "b a"


class LimitTests:
    @pytest_twisted.ensureDeferred
    async def test_refused_among_others(self, new: Callable[..., Subject]) -> None:
        """
        Of the updates that one command records, only those without room are refused, at each node.
        """
        one, other = new(max_retained=2), new(max_retained=2)
        follower = await one.start()
        await other.start()
        await append(other, retaining("0", "a"))
        await followed(one, other)
        recorded = [
            one.journal.append(each)
            for each in (
                retaining("1", "b"),
                update("2"),
                retaining("3", "c"),
                retaining("3", "c", "same id"),
                removing("4", "no"),
                removing("5", "a"),
                retaining("3", "c"),
            )
        ]
        outcomes = [outcome_of(each) for each in recorded]
        await until(lambda: all(outcomes))
        kinds = [int, int, RetainedFull, RetainedFull, NotRetained, int, int]
        assert [type(outcome[0]) for outcome in outcomes] == kinds
        error = cast(NotRetained, outcomes[4][0])
        assert (error.topics, error.key) == (("news",), "no")
        assert [each.id for _, each in follower.given] == ["0", "1", "2", "5", "3"]
        assert one.journal.problem is None
        await followed(one, other)
        assert await keys_of(other) == "b c"

    @pytest_twisted.ensureDeferred
    async def test_batch(self, server: RedisServer, new: Callable[..., Subject]) -> None:
        """
        If one update of a batch is refused, all fail with its error, and Redis is as before.
        """
        subject = new(max_retained=2)
        follower = await subject.start()
        await append(subject, retaining("0", "a"))
        before = await totals(subject)
        for batch, error in (
            ([update("1"), retaining("2", "b"), retaining("3", "c"), removing("4", "a")], RetainedFull),
            ([update("1"), removing("2", "a"), removing("3", "a")], NotRetained),
            ([retaining("1", "b"), removing("1", "b"), removing("2", "b")], NotRetained),
        ):
            with pytest.raises(error):
                await subject.journal.append_many(batch)
        assert await subject.find("1") is None
        assert (await totals(subject), await keys_of(subject)) == (before, "a")
        assert [each.id for _, each in follower.given] == ["0"]
        removal = removing("9", "a")
        batch = [
            retaining("0", "a"),
            removal,
            removal,
            retaining("5", "b"),
            retaining("6", "c"),
            retaining("6", "c"),
        ]
        await subject.journal.append_many(batch)
        assert await keys_of(subject) == "b c"
        # Equal to the newest with its id, so it is not refused although nothing is retained.
        await subject.journal.append_many([removal, update("7")])
        assert (await totals(subject))[0] == 2

    @pytest_twisted.ensureDeferred
    async def test_refused_batch_tidies(self, server: RedisServer, new: Callable[..., Subject]) -> None:
        """
        A call with a refused batch drops old updates, and removes expired ones, as any other.
        """
        subject = new(max_age=60.0)
        await subject.start()
        await subject.append("1")
        await append(subject, retaining("2", "a", seconds=10), retaining("3", "b"))
        subject.advance(61)
        with pytest.raises(NotRetained):
            await subject.journal.append_many([update("4"), removing("5", "a")])
        assert (await totals(subject))[:2] == (1, 0)
        assert await command(subject, "HGET", META, "count") == b"0"

    @pytest_twisted.ensureDeferred
    async def test_bytes(self, server: RedisServer, new: Callable[..., Subject]) -> None:
        """
        The bytes in Redis are those that the nodes count, after replacements, removals and expiries.
        """
        subject = new()
        await subject.start()
        await append(
            subject,
            retaining("1", "a", "x" * 500, ("ü", "b")),
            retaining("2", "a", "y", "b"),
            retaining("3", "c", "z", seconds=10),
            retaining("4", "d", "z", seconds=10),
            retaining("5", "d", "z"),
            retaining("6", "e", "z"),
            retaining("7", "e", "z", seconds=10**300),
            removing("8", "c"),
        )
        assert await totals(subject) == (4, 1, subject.journal.retained.size)
        subject.advance(20)
        await append(subject, retaining("9", "f"))
        assert await totals(subject) == (5, 1, subject.journal.retained.size)
        assert float(await command(subject, "ZSCORE", BY_EXPIRY, b"news\xffe")) == 1e300

    @pytest.mark.parametrize("how", ["append", "tidy"])
    @pytest_twisted.ensureDeferred
    async def test_expired(self, server: RedisServer, new: Callable[..., Subject], how: str) -> None:
        """
        Expired updates are removed from Redis in steps of 100, by each call that retains, and every minute.
        """
        subject = new()
        await subject.start()
        updates = [retaining(str(number), str(number), seconds=10 + number % 2) for number in range(250)]
        await append(subject, *updates, retaining("long", "long", seconds=1000), retaining("ever", "ever"))
        subject.advance(20)
        counts = []
        for number in range(4):
            if how == "append":
                await append(subject, retaining(f"more {number}", "ever"))
            else:
                assert await subject.journal._tidy_now() == (number < 3)
            counts.append((await totals(subject))[0])
        assert counts == [152, 52, 2, 2]
        assert await keys_of(subject) == "long ever"
        assert (await totals(subject))[1:] == (1, subject.journal.retained.size)

    @pytest_twisted.ensureDeferred
    async def test_expired_make_room(self, server: RedisServer, new: Callable[..., Subject]) -> None:
        """
        Expired updates do not count, even if more have expired than one step removes.
        """
        for options, data in (({"max_retained": 450}, "x"), ({"max_retained_bytes": 450 * 900}, "x" * 70)):
            server.ask("FLUSHALL")
            subject = new(**options)
            await subject.start()
            await append(
                subject, *(retaining(str(number), f"{number:03}", data, seconds=10) for number in range(440))
            )
            with pytest.raises(RetainedFull):
                await subject.journal.append_many(
                    [retaining(str(number), str(number), data) for number in range(1000, 1020)]
                )
            subject.advance(20)
            with pytest.raises(NotRetained):
                await subject.journal.append(removing("no", "001"))
            # 201 of them remain after two steps.
            await subject.journal.append_many(
                [retaining(str(number), f"{number % 1000:03}", data) for number in range(1000, 1400)]
            )
            assert (await totals(subject))[0] <= 440
            assert len(await rows_of(subject)) == subject.journal.retained.count == 400
            await append(subject, retaining("more", "more"))
            with pytest.raises(RetainedFull):
                await subject.journal.append_many(
                    [retaining(str(number), str(number), data) for number in range(2000, 2060)]
                )
            assert await totals(subject) == (401, 0, subject.journal.retained.size)

    @pytest_twisted.ensureDeferred
    async def test_expiry_at_each_node(self, new: Callable[..., Subject]) -> None:
        """
        A retained update expires at the same time at each node, also at one that was given it late.
        """
        one, late = new(), new()
        await one.start()
        await late.start()
        connect = late.journal._connect
        late.journal._connect = lambda: _fail()
        late.journal._script.session.commands.cut()
        await until(fails(late))
        await append(one, retaining("1", "a", seconds=100))
        await deferLater(reactor, 0.05)
        late.journal._connect = connect
        await until(works(late))
        await one.append("2")
        await followed(one, late)
        third = new()
        await third.start()
        assert await rows_of(one) == await rows_of(late) == await rows_of(third)

    @pytest_twisted.ensureDeferred
    async def test_entry_from_the_future(self, server: RedisServer, new: Callable[..., Subject]) -> None:
        """
        After another program has added an entry from the future, updates expire by the server's time.
        """
        one, other = new(), new()
        await one.start()
        await other.start()
        server.ask("XADD", "{txsse}:updates", "99999999999999-0", "a", "b")
        await append(one, retaining("1", "a", seconds=100), retaining("2", "b"))
        await followed(one, other)
        third = new()
        await third.start()
        for subject in (one, other, third):
            assert 90 < (await rows_of(subject))[0].expires - subject.now() < 110
            subject.advance(110)
            assert await keys_of(subject) == "b"

    @pytest_twisted.ensureDeferred
    async def test_large(self, new: Callable[..., Subject]) -> None:
        """
        Large retained updates are loaded in pages of few.
        """
        one, other = new(), new()
        await one.start()
        # A hash with many small values, and some that are large.
        await append(one, *(retaining(f"small {number}", f"small {number}") for number in range(300)))
        await append(one, *(retaining(str(number), str(number), "x" * 200_000) for number in range(50)))
        sizes: list[int] = []
        add_page = retained_loading.RetainedLoad._add_page

        def noting(load: Any, page: Any) -> None:
            sizes.append(sum(len(value) for _, value in page))
            add_page(load, page)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(retained_loading.RetainedLoad, "_add_page", noting)
            await other.start()
        assert await rows_of(other) == await rows_of(one)
        assert len(sizes) > 5 and max(sizes) < 4_000_000

    @pytest.mark.slow
    @pytest_twisted.ensureDeferred
    async def test_many(self, server: RedisServer, new: Callable[..., Subject]) -> None:
        """
        100,000 retained updates are loaded by pages, while the reactor does other work.
        """
        one, other = new(max_retained_bytes=10**9), new(max_retained_bytes=10**9)
        await one.start()
        await one.append("1")
        for page in range(0, 100_000, 1000):
            rows = [stored_row(retaining(f"{n}", f"{n}"), f"1-{n}") for n in range(page, page + 1000)]
            await command(one, "HSET", HASH, *(each for row in rows for each in row))
        turns = 0
        started = Deferred.fromCoroutine(other.start())
        while not started.called:
            turns += 1
            await deferLater(reactor, 0)
        assert turns > 150
        assert other.journal.retained.count == 100_000
        with pytest.raises(RetainedFull):
            await one.journal.append(retaining("more", "more"))
        assert await totals(one) == (100_000, 0, other.journal.retained.size)
        await append(one, removing("end", "99999"))
        await followed(one, other)
        assert [int(row.key) for row in await rows_of(other)] == list(range(99_999))


class OutageTests:
    @pytest_twisted.ensureDeferred
    async def test_restarted(self, server: RedisServer, new: Callable[..., Subject]) -> None:
        """
        After Redis was killed and restarted, its retained updates and those of the nodes are as before; they
        can be read meanwhile, and are not loaded again.
        """
        one, other = new(), new()
        await one.start()
        await other.start()
        await append(one, *(retaining(str(number), str(number % 300), str(number)) for number in range(500)))
        await append(one, removing("no", "7"))
        await followed(one, other)
        rows = await rows_of(one)
        assert len(rows) == 299
        server.kill()
        await until(fails(one, other))
        assert await rows_of(one) == await rows_of(other) == rows
        assert "connection is lost" in (await problem_of(one.journal.append(retaining("x", "x")))).problem
        server.start()
        server.ask("CONFIG", "RESETSTAT")
        await until(works(one, other))
        assert not is_stale(one) and not is_stale(other)
        await append(other, retaining("new", "new"))
        await followed(one, other)
        assert "hscan" not in (server.ask("INFO", "commandstats") or "")
        third = new()
        await third.start()
        assert await rows_of(one) == await rows_of(other) == await rows_of(third)
        assert [row.key for row in await rows_of(one)] == [*(row.key for row in rows), "new"]

    @pytest_twisted.ensureDeferred
    async def test_restarted_empty(self, server: RedisServer, new: Callable[..., Subject]) -> None:
        """
        If Redis restarts without its data, the nodes retain nothing, and then the new updates.
        """
        one, other = new(), new()
        await one.start()
        await other.start()
        await append(one, retaining("1", "a"), retaining("2", "b"))
        await followed(one, other)
        server.kill()
        await until(fails(one, other))
        for file in (server.directory / "appendonlydir").iterdir():
            file.unlink()
        server.start()
        await until(works(one, other))
        assert await rows_of(one) == await rows_of(other) == []
        assert one.journal.retained.is_empty
        with pytest.raises(NotRetained):
            await one.journal.append(removing("3", "a"))
        await append(one, retaining("4", "b"))
        await followed(one, other)
        assert await keys_of(one) == await keys_of(other) == "b"

    @pytest_twisted.ensureDeferred
    async def test_rolled_back(self, server: RedisServer, new: Callable[..., Subject]) -> None:
        """
        If the record is set back, as by a failover, the nodes retain what it retained then.
        """
        one, other = new(), new()
        await one.start()
        await other.start()
        await append(one, retaining("1", "a", "before"), retaining("2", "b"))
        await followed(one, other)
        kept = {file.name: file.read_bytes() for file in (server.directory / "appendonlydir").iterdir()}
        await append(one, retaining("3", "a", "lost"), removing("4", "b"), retaining("5", "c"))
        await followed(one, other)
        server.kill()
        await until(fails(one, other))
        for name, content in kept.items():
            (server.directory / "appendonlydir" / name).write_bytes(content)
        server.start()
        await until(works(one, other))
        for subject in (one, other):
            assert [row.frame for row in await rows_of(subject)] == [b"data: before\n\n", b"data: x\n\n"]
            assert await keys_of(subject) == "a b"
        await append(other, retaining("6", "d"), removing("7", "a"))
        await followed(one, other)
        assert await keys_of(one) == await keys_of(other) == "b d"

    @pytest.mark.parametrize("how", ["alive", "reconnecting"])
    @pytest_twisted.ensureDeferred
    async def test_flushed(self, server: RedisServer, new: Callable[..., Subject], how: str) -> None:
        """
        After FLUSHALL, the nodes retain the new updates only, whether or not they had to reconnect.
        """
        one, other = new(), new()
        await one.start()
        await other.start()
        for number in range(3):
            await append(
                one, retaining(f"{number}", f"old {number}"), retaining(f"b {number}", "both", "old")
            )
            await followed(one, other)
            server.ask("FLUSHALL")
            if how == "reconnecting":
                await cut(one)
                await cut(other)
            await append(
                other, retaining(f"c {number}", "both", "new"), retaining(f"d {number}", f"new {number}")
            )
            await until(lambda: not is_stale(one) and not is_stale(other))
            await followed(one, other)
            assert await keys_of(one) == await keys_of(other) == f"both new {number}"
            assert (await rows_of(one))[0].frame == b"data: new\n\n"

    @pytest_twisted.ensureDeferred
    async def test_trimmed_below(self, server: RedisServer, new: Callable[..., Subject]) -> None:
        """
        A node that was away until the next updates were dropped loads what they have retained and removed.
        """
        away, other = new(max_count=5), new(max_count=5)
        follower = await away.start()
        await other.start()
        await append(other, retaining("1", "a"), retaining("2", "b"), retaining("3", "c"))
        await followed(away, other)
        connect = away.journal._connect
        away.journal._connect = lambda: _fail()
        away.journal._script.session.commands.cut()
        await until(fails(away))
        await append(other, removing("4", "a"), retaining("5", "b", "new"), retaining("6", "d"))
        await other.append(*map(str, range(7, 2000)))
        away.journal._connect = connect
        await until(works(away))
        assert follower.missed
        assert await keys_of(away) == "c b d"
        assert await rows_of(away) == await rows_of(other)
        await append(other, removing("end", "c"))
        await followed(away, other)
        assert await keys_of(away) == "b d"

    @pytest_twisted.ensureDeferred
    async def test_damaged_entry(self, server: RedisServer, new: Callable[..., Subject]) -> None:
        """
        If an entry of the stream is damaged, a node that follows loads what that update has retained.
        """
        subject, other = new(), new()
        follower = await subject.start()
        await other.start()
        await append(other, retaining("1", "a"))
        await followed(subject, other)
        connect = subject.journal._connect
        subject.journal._connect = lambda: _fail()
        subject.journal._script.session.commands.cut()
        await until(fails(subject))
        await append(other, retaining("2", "b"), removing("3", "a"), retaining("4", "c"))
        change(server, lambda index, flat: [b"!" if each == b"x" and index == 1 else each for each in flat])
        subject.journal._connect = connect
        await until(works(subject))
        await until(lambda: subject.journal.damaged == 1)
        await followed(subject, other)
        assert await keys_of(subject) == await keys_of(other) == "b c"
        assert follower.missed

    @pytest_twisted.ensureDeferred
    async def test_stale(self, new: Callable[..., Subject], monkeypatch: pytest.MonkeyPatch) -> None:
        """
        While the retained updates are stale, readers wait, it is uncertain whether there are any, and what is
        known is found; a load that a lost connection ends is repeated in the next session.
        """
        subject, other = new(), new()
        await subject.start()
        await other.start()
        await append(other, retaining("1", "a"), removing("2", "a"))
        await followed(subject, other)
        assert subject.journal.retained.is_empty
        held: list[Deferred[Any]] = []
        scan = retained_loading.RetainedLoad.scan

        async def slow_scan(load: Any) -> None:
            held.append(Deferred())
            await held[-1]
            await scan(load)

        monkeypatch.setattr(retained_loading.RetainedLoad, "scan", slow_scan)
        subject.journal.retained.missed()
        reading = [outcome_of(Deferred.fromCoroutine(rows_of(subject, topics))) for topics in (None, {"b"})]
        await until(lambda: len(held) == 1)
        await cut(subject)
        await until(lambda: len(held) == 2)
        await append(other, retaining("3", "b"))
        await followed(subject, other)
        assert subject.journal.retained.find("news", "b") is not None
        await append(other, removing("4", "b"), retaining("5", "c", topics="b"), removing("6", "c", "b"))
        await append(other, retaining("7", "c", topics="b"), retaining("8", "c"))
        await followed(subject, other)
        assert reading == [[], []]
        assert not subject.journal.retained.is_empty
        held[-1].callback(None)
        await until(lambda: all(reading))
        assert [[row.topics for row in rows] for (rows,) in cast(Any, reading)] == [
            [("b",), ("news",)],
            [("b",)],
        ]
        assert len(held) == 2

    @pytest_twisted.ensureDeferred
    async def test_several_gaps(self, new: Callable[..., Subject], monkeypatch: pytest.MonkeyPatch) -> None:
        """
        Several gaps in one turn lead to one load, and one during a load begins it again.
        """
        subject = new()
        await subject.start()
        await append(subject, retaining("1", "a"))
        scans = 0
        scan = retained_loading.RetainedLoad.scan

        async def counted(load: Any) -> None:
            nonlocal scans
            scans += 1
            await scan(load)

        monkeypatch.setattr(retained_loading.RetainedLoad, "scan", counted)
        for _ in range(3):
            subject.journal.retained.missed()
        await until(lambda: scans == 1)
        subject.journal.retained.missed()
        assert await keys_of(subject) == "a"
        assert scans == 2

    @pytest_twisted.ensureDeferred
    async def test_entry_removed_during_the_load(
        self, server: RedisServer, new: Callable[..., Subject]
    ) -> None:
        """
        If the newest entry is removed from the stream before a node was given it, its load ends nevertheless.
        """
        one = new()
        await one.start()
        await append(one, retaining("1", "a"), retaining("2", "b"))
        other = new(timeout=0.5)
        load = other.journal._following.load

        async def load_early(*arguments: Any) -> None:
            await load(*arguments)
            (position,) = await one.append("3")
            await command(one, "XDEL", "{txsse}:updates", f"{position >> 64}-{position & 0xFFFF}")

        other.journal._following.load = load_early
        await other.start()
        assert is_stale(other)
        assert await keys_of(other) == "a b"
        await append(one, retaining("4", "c"))
        await until(lambda: other.journal.head == one.journal.head)
        assert await keys_of(other) == "a b c"

    @pytest_twisted.ensureDeferred
    async def test_stopped(self, new: Callable[..., Subject], monkeypatch: pytest.MonkeyPatch) -> None:
        """
        A journal that is not started, or is stopped during a load, does not keep readers waiting.
        """
        subject = new()
        retained = subject.journal.retained
        assert "not started" in (await problem_of(retained.read(None, 0, 1))).problem
        await subject.start()
        await append(subject, retaining("1", "a"))
        monkeypatch.setattr(retained_loading.RetainedLoad, "scan", lambda load: Deferred())
        retained.missed()
        reading, cancelled = retained.read(None, 0, 1), retained.read(None, 0, 1)
        outcome_of(cancelled)
        cancelled.cancel()
        stopping = subject.journal.stop()
        assert "not started" in (await problem_of(reading)).problem
        await stopping
        assert "not started" in (await problem_of(retained.read(None, 0, 1))).problem
        assert not retained.is_empty

    @pytest_twisted.ensureDeferred
    async def test_stopped_during_the_start(
        self, new: Callable[..., Subject], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        A journal that is stopped while it loads the retained updates for the first time does not start.
        """
        subject = new()
        scanning: Deferred[None] = Deferred()
        monkeypatch.setattr(retained_loading.RetainedLoad, "scan", lambda load: _wait(scanning))
        starting = outcome_of(subject.journal.start(Follower()))
        reading = outcome_of(subject.journal.retained.read(None, 0, 1))
        await until(lambda: subject.journal.retained._loading is not None)
        await subject.journal.stop()
        assert len(starting) == 1 and isinstance(starting[0], BaseException)
        assert isinstance(reading[0], JournalFailed)

    @pytest_twisted.ensureDeferred
    async def test_stopped_before_the_load(self, new: Callable[..., Subject]) -> None:
        """
        A journal that is stopped while it reads the newest updates does not start.
        """
        subject = new()
        reading: Deferred[None] = Deferred()
        sessions: list[Any] = []

        async def load(session: Session, *_: object) -> None:
            sessions.append(session)
            await reading

        subject.journal._following.load = load
        starting = subject.journal.start(Follower())
        await until(lambda: sessions)
        await subject.journal.stop()
        reading.callback(None)
        assert "not started" in (await problem_of(starting)).problem
        await sessions[0].commands.when_lost

    @pytest_twisted.ensureDeferred
    async def test_unavailable_at_the_start(self, server: RedisServer, new: Callable[..., Subject]) -> None:
        """
        If the journal cannot start, readers do not wait.
        """
        subject = new()
        server.kill()
        starting = subject.journal.start(Follower())
        reading = subject.journal.retained.read(None, 0, 1)
        await problem_of(starting)
        assert "cannot connect" in (await problem_of(reading)).problem

    @pytest_twisted.ensureDeferred
    async def test_no_permission_to_scan(
        self,
        server: RedisServer,
        new: Callable[..., Subject],
        logged: list[LogEvent],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """
        If Redis refuses the scan, the load is repeated until it succeeds, and the problem is shown.
        """
        monkeypatch.setattr(retained_module, "_RETRY", 0.05)
        subject = new()
        await subject.start()
        await append(subject, retaining("1", "a"))
        server.ask("ACL", "SETUSER", "default", "-hscan")
        subject.journal.retained.missed()
        reading = outcome_of(Deferred.fromCoroutine(keys_of(subject)))
        await until(fails(subject))
        assert "no permission" in str(subject.journal.problem)
        assert reading == []
        server.ask("ACL", "SETUSER", "default", "+hscan")
        await until(lambda: reading == ["a"])
        assert subject.journal.problem is None
        assert any("cannot load its retained updates yet" in (formatEvent(each) or "") for each in logged)


async def _fail() -> Any:
    raise JournalFailed("redis", "not now")


async def _wait(waiting: Deferred[None]) -> None:
    await waiting


def texts_of(logged: list[LogEvent]) -> list[str]:
    return [text for event in logged if "retained updates are damaged" in (text := formatEvent(event))]


A, B, C = b"news\xffa", b"news\xffb", b"news\xffc"


class DamageTests:
    @pytest.mark.parametrize(
        "junk",
        [
            b"",
            b"x",
            b"secret" * 100_000,
            b"0123456789abcdef\xff0-5\xff\xff5\xff\xff0\xff\xff\xff\xffx",
            signed(A, b"")[1],
            signed(B, b"0-5\xff\xff5\xff\xff0\xff\xff\xff\xffx")[1],
            signed(A, b"0-5\xffsoon\xff5\xff\xff0\xff\xff\xff\xffx")[1],
            signed(A, b"0-5\xffnan\xff5\xff\xff0\xff\xff\xff\xffx")[1],
            signed(A, b"0-5\xff\xff%b\xff\xff0\xff\xff\xff\xffx" % (b"9" * 400))[1],
        ],
        ids=lambda junk: str(junk[:30]),
    )
    @pytest.mark.parametrize("then", ["replaced", "removed", "batch"])
    @pytest_twisted.ensureDeferred
    async def test_value(
        self, server: RedisServer, new: Callable[..., Subject], junk: bytes, then: str, logged: list[LogEvent]
    ) -> None:
        """
        A damaged value of a retained update is as if it were missing; it is logged once, without its content,
        and does not affect others.
        """
        one, other = new(max_retained=3), new(max_retained=3)
        await one.start()
        await append(
            one, retaining("1", "a", "secret"), retaining("2", "b", seconds=500), retaining("3", "c")
        )
        await command(one, "HSET", HASH, A, junk)
        await other.start()
        kept = await keys_of(other)
        # Only the script reads the size.
        assert kept in ("b c", "a b c") and (kept == "b c" or b"999" in junk)
        other.journal.retained.missed()
        assert await keys_of(other) == kept
        if kept == "b c":
            (text,) = texts_of(logged)
            assert text == (
                f"<RedisJournal redis://127.0.0.1:{server.port}>: records of retained updates are damaged "
                "and are skipped; publish these updates again"
            )
        assert (other.journal.problem, other.journal.damaged) == (None, 0)
        if then == "replaced":
            await append(one, retaining("4", "a"))
        elif then == "batch":
            await one.journal.append_many([update("3.5"), retaining("4", "a"), retaining("5", "b")])
        else:
            with pytest.raises(NotRetained):
                await one.journal.append(removing("4", "a"))
            await append(other, retaining("4", "d"))
        third = new()
        await third.start()
        await followed(one, other, third)
        expected = {"replaced": "b c a", "batch": "c a b", "removed": "b c d"}[then]
        assert await keys_of(third) == expected
        assert await totals(one) == (3, then != "batch", third.journal.retained.size)
        with pytest.raises(RetainedFull):
            await other.journal.append(retaining("6", "e"))

    @pytest_twisted.ensureDeferred
    async def test_every_bit(self, server: RedisServer, new: Callable[..., Subject]) -> None:
        """
        A flip of any bit in a value is detected by the script, and the value is as if it were missing.
        """
        subject = new()
        await subject.start()
        await append(subject, retaining("1", "a"))
        value = await command(subject, "HGET", HASH, A)
        for bit in range(8 * len(value)):
            flipped = bytearray(value)
            flipped[bit // 8] ^= 1 << bit % 8
            await command(subject, "HSET", HASH, A, bytes(flipped))
            with pytest.raises(NotRetained):
                await subject.journal.append(removing("2", "a"))
            assert await totals(subject) == (0, 0, 0)

    @pytest.mark.parametrize(
        "damage",
        [
            ("DEL", BY_EXPIRY),
            ("ZADD", BY_EXPIRY, 5, B),
            ("ZADD", BY_EXPIRY, 5, C),
            ("ZADD", BY_EXPIRY, 5, b"junk"),
            ("ZADD", BY_EXPIRY, 5, A),
            ("ZREM", BY_EXPIRY, B),
            ("HSET", HASH, b"junk", b"junk"),
            ("HSET", HASH, b"a\xffb\xffc", b"junk"),
            ("HDEL", META, "retained"),
            *(
                ("HSET", META, "retained", junk)
                for junk in ("", "x", "3 2 5", "3 2 5 0123456789abcdef", "-1 nan inf x", "9" * 500)
            ),
        ],
        ids=lambda damage: str(damage)[:60],
    )
    @pytest.mark.parametrize("then", ["replaced", "tidied"])
    @pytest_twisted.ensureDeferred
    async def test_repaired(
        self, server: RedisServer, new: Callable[..., Subject], damage: tuple[Any, ...], then: str
    ) -> None:
        """
        After another program has changed the sorted set, the totals or the hash, the next call repairs them.
        """
        subject = new(max_retained=3)
        await subject.start()
        await append(
            subject, retaining("1", "a"), retaining("2", "b", seconds=50), retaining("3", "c", seconds=500)
        )
        size = subject.journal.retained.size
        await command(subject, *damage)
        if then == "tidied":
            await subject.journal._tidy_now()
        else:
            await append(subject, retaining("4", "a"))
        assert await totals(subject) == (3, 2, size)
        times = [float(await command(subject, "ZSCORE", BY_EXPIRY, each)) - subject.now() for each in (B, C)]
        assert 0 < times[0] < 50 < times[1] < 500
        with pytest.raises(RetainedFull):
            await subject.journal.append(retaining("5", "d"))
        subject.advance(60)
        await append(subject, retaining("5", "d"))
        assert set((await keys_of(subject)).split()) == {"a", "c", "d"}
        assert (await totals(subject))[:2] == (3, 1)

    @pytest.mark.parametrize("then", ["replaced", "tidied"])
    @pytest_twisted.ensureDeferred
    async def test_hash_deleted(self, server: RedisServer, new: Callable[..., Subject], then: str) -> None:
        """
        After another program has deleted the hash, nothing is retained in Redis, and the totals are right.
        """
        subject, other = new(max_retained=2), new()
        await subject.start()
        await append(subject, retaining("1", "a"), retaining("2", "b", seconds=500))
        await command(subject, "DEL", HASH)
        await other.start()
        assert other.journal.retained.is_empty
        if then == "tidied":
            await subject.journal._tidy_now()
            assert await totals(subject) == (0, 0, 0)
        await append(subject, retaining("3", "b"), retaining("4", "c"))
        await followed(subject, other)
        assert await keys_of(other) == "b c"
        assert await totals(subject) == (2, 0, other.journal.retained.size)

    @pytest.mark.parametrize("key", [HASH, BY_EXPIRY])
    @pytest_twisted.ensureDeferred
    async def test_key_of_another_type(
        self, server: RedisServer, new: Callable[..., Subject], key: str
    ) -> None:
        """
        If a key has another type, retaining fails with an error of Redis until it is deleted; other updates
        are recorded.
        """
        subject = new()
        await subject.start()
        await append(subject, retaining("1", "a"))
        await command(subject, "DEL", key)
        await command(subject, "SET", key, "x")
        error = await problem_of(subject.journal.append(retaining("2", "b")))
        assert "WRONGTYPE" in error.problem
        assert await subject.find("2") is None
        await subject.append("3")
        await command(subject, "DEL", key)
        await append(subject, retaining("2", "b"))
        # The updates that the hash had are lost with it.
        assert (await totals(subject))[0] == (1 if key == HASH else 2)

    @pytest_twisted.ensureDeferred
    async def test_out_of_memory(self, server: RedisServer, new: Callable[..., Subject]) -> None:
        """
        If Redis has no memory left, nothing is retained, and the totals remain right.
        """
        subject = new()
        await subject.start()
        await append(subject, retaining("1", "a"))
        before = await totals(subject)
        server.ask("CONFIG", "SET", "maxmemory", "1")
        error = await problem_of(subject.journal.append(retaining("2", "b")))
        assert "raise its maxmemory" in error.problem
        assert await totals(subject) == before
        server.ask("CONFIG", "SET", "maxmemory", "0")
        await append(subject, retaining("2", "b"))
        assert await keys_of(subject) == "a b"


class Hostile:
    """
    A fake session whose server replies with anything, and a fake journal.
    """

    def __init__(self, *replies: Any) -> None:
        self.replies = list(replies)
        self.clock = Clock()
        self.script = Script(self, "redis://x", lambda: 0.0)
        self.script.start(self.clock)
        self.head = 5
        self.retained = RedisRetained(self, self.script, self.clock.seconds, self.place, limits())
        self.retained.start(self.clock)
        self.script.session_began(cast(Session, self))

    def place(self) -> tuple[Epochs, int]:
        return Epochs(), self.head

    def run(self, *_: object) -> Deferred[Reply]:
        return succeed(self.replies.pop(0))


class HostileTests:
    def test_loaded_again(self, logged: list[LogEvent]) -> None:
        """
        If the server replies to the scan with anything, this is logged, and the load is repeated after two
        seconds; readers wait.
        """
        row = stored_row(retaining("1", "a"), "0-1")
        hostile = Hostile(None, [b"0-1", b"0", [b"a"]], [b"0-1", b"0", list(row)])
        reading = outcome_of(hostile.retained.read(None, 0, 9))
        hostile.retained.session_began()
        hostile.clock.advance(1.9)
        assert len(hostile.replies) == 2
        hostile.clock.advance(0.1)
        hostile.clock.advance(2)
        assert hostile.replies == []
        assert len(cast(Any, reading[0]).entries) == 1
        assert hostile.clock.getDelayedCalls() == []
        texts = [text for event in logged if "cannot load" in (text := formatEvent(event) or "")]
        assert len(texts) == 2 and "check that the URL is that of a Redis server" in texts[0]
        hostile.retained.session_began()
        assert not hostile.retained.is_empty

    def test_fault(self, failures: list[LogEvent]) -> None:
        """
        An exception in a load is logged with its traceback, and the load is repeated; not without a session.
        """
        hostile = Hostile()
        hostile.retained.session_began()
        assert [event["log_failure"].type for event in failures] == [IndexError]
        failures.clear()
        hostile.replies.append([b"0-1", b"0", []])
        hostile.clock.advance(2)
        assert hostile.retained.is_empty
        assert hostile.retained.changed_at == 0
        hostile.head = 7
        hostile.retained.missed()
        # A hub that has kept pages has to read them again.
        assert hostile.retained.changed_at == 7
        hostile.script.session_lost(JournalFailed("redis://x", "is lost"))
        hostile.clock.advance(0)
        assert hostile.clock.getDelayedCalls() == []
        assert not hostile.retained.is_empty

    def test_retried_load_ends_with_the_session(self) -> None:
        """
        When the session is lost, the repetition of a load is cancelled; the next session loads.
        """
        hostile = Hostile(None, [b"0-1", b"0", []])
        hostile.retained.session_began()
        assert len(hostile.clock.getDelayedCalls()) == 1
        hostile.retained.session_lost()
        assert hostile.clock.getDelayedCalls() == []
        hostile.retained.session_began()
        assert hostile.retained.is_empty

    def test_reader_that_makes_them_stale(self) -> None:
        """
        A reader that waits does not read while the retained updates are stale again.
        """
        hostile = Hostile([b"0-1", b"0", []], [b"0-1", b"0", []])
        first = hostile.retained.read(None, 0, 9)
        second = outcome_of(hostile.retained.read(None, 0, 9))
        first.addCallback(lambda _: hostile.retained.missed())
        hostile.retained.session_began()
        assert second == []
        hostile.clock.advance(0)
        assert len(second) == 1

    def test_update_from_the_future(self) -> None:
        """
        An update whose entry is from the future expires by the server's time; up to a minute may be the skew
        of the clocks, and is the same for all nodes.
        """
        hostile = Hostile([b"0-1", b"0", []])
        hostile.retained.session_began()
        hostile.retained.apply(7, retaining("1", "a", seconds=10), 60.5)
        hostile.retained.apply(8, retaining("2", "b", seconds=10), 60.0)
        for seconds, found in ((9, "ab"), (1, "b"), (59, "b"), (1, "")):
            hostile.clock.advance(seconds)
            assert [key for key in "ab" if hostile.retained.find("news", key)] == list(found)


class ModelTests:
    @pytest.mark.fuzz
    @pytest.mark.parametrize("seed", range(4))
    @pytest_twisted.ensureDeferred
    async def test_random_updates(
        self, new: Callable[..., Subject], seed: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        After random updates, batches, reconnections and lapses of time at two nodes, both agree with a memory
        journal, and so does a node that joins.
        """
        monkeypatch.setattr(retained_loading, "_PAGE_COUNT", 5)
        random = Random(seed)
        bounds: dict[str, int] = {"max_retained": 9} if seed % 2 else {"max_retained_bytes": 9_000}
        clock = FakeReactor()
        model = MemoryJournal(reactor=clock, **bounds)
        await model.start(Follower())
        subjects = [new(**bounds), new(**bounds)]
        for subject in subjects:
            await subject.start()
        passed = 0
        outcomes: set[type] = set()

        def random_update() -> Update:
            id, key = f"id {random.randrange(30)}", random.choice("abcdef")
            topics = random.sample(["1", "2", "ü"], random.randrange(1, 4))
            kind = random.random()
            if kind < 0.3:
                return update(id, random.choice("xy"), topics=cast(Any, topics))
            if kind < 0.5:
                return removing(id, key, topics)
            # A real clock runs on, and must not decide what has expired.
            seconds = random.choice([None, None, 50, 150, 250])
            data = random.choice(["x", "y", "z" * random.randrange(1000)])
            return retaining(id, key, data, topics, owner=random.choice([None, "me", "you"]), seconds=seconds)

        for number in range(300):
            here = random.choice(subjects)
            await followed(*subjects)
            if random.random() < 0.1:
                passed += 100
                clock.advance(100)
                for subject in subjects:
                    subject.advance(100)
            if random.random() < 0.02:
                # A node that reconnects reads the server's clock.
                await cut(here)
                here.advance(passed)
            if number == 150:
                joining = new(**bounds)
                await joining.start()
                joining.advance(passed)
                subjects.append(joining)
            updates = [random_update() for _ in range(random.choice([1, 1, 1, 2, 5]))]
            results: list[str | None] = []
            for journal in (model, here.journal):
                work: Awaitable[Any] = (
                    journal.append(updates[0]) if len(updates) == 1 else journal.append_many(updates)
                )
                try:
                    await work
                    results.append(None)
                except (RetainedFull, NotRetained) as error:
                    results.append(str(error))
                    outcomes.add(type(error))
            assert results[0] == results[1]
            await followed(*subjects)
            expected = [_comparable(row) for row in await rows_of(model)]
            for subject in subjects:
                assert [_comparable(row) for row in await rows_of(subject)] == expected
                retained = subject.journal.retained
                assert (retained.count, retained.size) == (model.retained.count, model.retained.size)
                assert retained.owned("me") == model.retained.owned("me")
                assert set(retained.topics()) == set(model.retained.topics())
            assert await rows_of(subjects[0]) == await rows_of(subjects[1])
        assert outcomes == {RetainedFull, NotRetained}
        last = new(**bounds)
        await last.start()
        last.advance(passed)
        assert await rows_of(last) == await rows_of(subjects[0])

    @pytest.mark.fuzz
    @pytest.mark.parametrize("seed", range(3))
    @pytest_twisted.ensureDeferred
    async def test_at_once(
        self, server: RedisServer, new: Callable[..., Subject], seed: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        While nodes publish at once, lose connections and skip updates, and Redis is killed, each reads
        retained updates that agree with the updates which a hub was given up to then.
        """
        monkeypatch.setattr(retained_loading, "_PAGE_COUNT", 5)
        random = Random(seed)
        subjects = [new(max_retained=30) for _ in range(3)]
        followers = [await subject.start() for subject in subjects]
        checks = 0

        def model(given: list[tuple[int, Update]]) -> dict[tuple[str, str], int]:
            known: dict[tuple[str, str], int] = {}
            for position, each in given:
                for topic in each.topics if each.retention is not None else ():
                    assert each.retention is not None
                    known.pop((topic, each.retention.key), None)
                    if not each.unretains:
                        known[topic, each.retention.key] = position
            return known

        def check(page: Any, given: list[tuple[int, Update]]) -> None:
            nonlocal checks
            checks += 1
            found = {(topic, row.key): at for at, row in page.entries for topic in row.topics}
            assert found == model(given)

        pending: list[Deferred[Any]] = []
        for number in range(400):
            here = random.randrange(3)
            subject, given = subjects[here], followers[here].given
            key, topics = f"{random.randrange(12)}", random.sample("abcd", random.randrange(1, 4))
            if random.random() < 0.4:
                each = removing(f"{number}", key, topics)
            else:
                each = retaining(f"{number}", key, str(number), topics)
            appended = subject.journal.append(each)
            appended.addErrback(lambda failure: failure.trap(JournalFailed, NotRetained, RetainedFull))
            pending.append(appended)
            if random.random() < 0.05:
                subject.journal.retained.missed()
            if random.random() < 0.03 and subject.journal._script.session is not None:
                subject.journal._script.session.commands.cut()
            if number == 200:
                server.kill()
                await until(fails(*subjects))
                server.start()
                await until(works(*subjects))
            if random.random() < 0.3:
                pending.append(subject.journal.retained.read(None, 0, END).addCallback(check, given))
            if random.random() < 0.5:
                await deferLater(reactor, random.choice([0, 0.001, 0.01]))
        await until(works(*subjects))
        await gatherResults(pending)
        await subjects[0].append("end")
        await until(lambda: all(follower.given[-1][1].id == "end" for follower in followers))
        last = new(max_retained=30)
        await last.start()
        assert checks > 50
        for subject in (*subjects, last):
            check(await subject.journal.retained.read(None, 0, END), followers[0].given)
            assert await rows_of(subject) == await rows_of(last)
        assert [follower.missed for follower in followers] == [[], [], []]
        assert (await totals(last))[::2] == (last.journal.retained.count, last.journal.retained.size)


def _comparable(row: Retained) -> object:
    return row.topics, row.private, row.key, row.owner, row.frame
