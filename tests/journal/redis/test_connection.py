"""
Tests of connections to a real Redis: URLs, TLS, sockets, users, sentinels.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.ssl import Certificate, trustRootFromCertificates

from tests.journal.journals import Subject, redis, update
from tests.journal.redis.test_journal import problem_of
from tests.journal.redis_server import RedisServer, ask, running, sentinel
from tests.processes import finish, free_port
from tests.waiting import until
from txsse import ServerSentEvent, Update
from txsse.journal.position import OLDEST
from txsse.journal.redis import connection as connection_module
from txsse.journal.redis import journal as redis_module
from txsse.journal.redis.connection import connect, explain
from txsse.journal.redis.url import parse_url
from txsse.journal.retention import Retention
from txsse.journal.revocations import Revocation

ROOT = Path(__file__).parent.parent.parent.parent


@pytest.fixture
def opened() -> Iterator[Callable[..., Subject]]:
    """
    Make journals in Redis, and stop them after the test.
    """
    made: list[Subject] = []

    def make(url: str, **options: Any) -> Subject:
        made.append(redis(url, timeout=2.0, **options))
        return made[-1]

    yield make
    for subject in made:
        pytest_twisted.blockon(subject.journal.stop())


async def use(subject: Subject) -> None:
    follower = await subject.start()
    await subject.append("1")
    assert [update.id for _, update in follower.given] == ["1"]


class AdviceTests:
    @pytest.mark.parametrize(
        ("said", "advice"),
        [
            ("OOM command not allowed when used memory > 'maxmemory'.", "raise its maxmemory"),
            ("ERR Error running script: @user_script:1: -OOM command not allowed", "raise its maxmemory"),
            ("READONLY You can't write against a read only replica.", "is now a replica"),
            ("MISCONF Redis is configured to save RDB snapshots", "see its log"),
            ("something else", "something else"),
        ],
    )
    def test_explained(self, said: str, advice: str) -> None:
        """
        The explanation of a Redis error has advice and the original message, for all versions of Redis.
        """
        assert advice in explain(said)
        assert said in explain(said)


class ConnectionTests:
    @pytest.mark.redis
    @pytest_twisted.ensureDeferred
    async def test_socket(self, tmp_path: Path, opened: Callable[..., Subject]) -> None:
        """
        A journal connects to Redis over a Unix socket, and uses the database that the URL names.
        """
        with running(tmp_path, unixsocket=str(tmp_path / "redis.sock")) as server:
            await use(opened(f"unix://{tmp_path}/redis.sock?db=3"))
            assert "db3:keys=" in (server.ask("INFO", "keyspace") or "")

    @pytest.mark.redis
    @pytest.mark.process
    @pytest_twisted.ensureDeferred
    async def test_users(self, tmp_path: Path, opened: Callable[..., Subject]) -> None:
        """
        The error names a missing or wrong Redis password, and refers to the docs if permissions are missing.
        """
        with running(tmp_path, requirepass="general") as server:
            port = server.port
            for url, said in (
                (f"redis://127.0.0.1:{port}", "the server requires a password; add it to the URL"),
                (f"redis://:wrong@127.0.0.1:{port}", "the server rejects this user or password"),
            ):
                assert said in (await problem_of(opened(url).start())).problem
            await use(opened(f"redis://:general@127.0.0.1:{port}"))
            general = redis_cli(port, "general")
            general("ACL", "SETUSER", "hub", "on", ">secret", "~{txsse}:*", "+@all", "-@admin", "-@dangerous")
            error = await problem_of(opened(f"redis://hub:secret@127.0.0.1:{port}").start())
            assert "docs/journals.rst lists the required permissions" in error.problem
            assert "secret" not in str(error)
            general("ACL", "SETUSER", "hub", "reset", "on", ">secret", "~{txsse}:*", "+@all", "-hset")
            error = await problem_of(opened(f"redis://hub:secret@127.0.0.1:{port}", key="new").start())
            assert "docs/journals.rst lists the required permissions" in error.problem

    @pytest.mark.redis
    @pytest.mark.process
    @pytest_twisted.ensureDeferred
    async def test_documented_permissions(self, tmp_path: Path, opened: Callable[..., Subject]) -> None:
        """
        A journal works for a Redis user with only the permissions that the documentation lists.
        """
        documented = (ROOT / "docs" / "journals.rst").read_text(encoding="utf-8")
        found = re.search(r"ACL SETUSER hub on >password (~.*?)\n\n", documented, re.DOTALL)
        assert found is not None
        rights = found[1].split()
        for command in re.findall(
            r"redis\.p?call\('(\w+)'", (ROOT / "txsse/journal/redis/script.lua").read_text()
        ):
            assert f"+{command.lower()}" in rights
        with running(tmp_path, requirepass="general") as server:
            redis_cli(server.port, "general")("ACL", "SETUSER", "hub", "on", ">secret", *rights)
            subjects = [opened(f"redis://hub:secret@127.0.0.1:{server.port}", max_count=10) for _ in range(2)]
            for subject in subjects:
                await subject.start()
            one, other = subjects
            other.journal.cluster.put_metadata("a/b", "note")
            await other.append(*map(str, range(500)))
            other.journal.cluster.put_metadata("a/c", "note")
            other.journal.cluster.put_metadata("a/c", None)
            await other.append("last")
            assert await one.find("499") is not None
            assert await one.journal._tidy_now() is False
            assert await one.journal._reader.read(OLDEST)
            assert await one.journal.cluster.count_subscribers("*") == 0
            assert await one.journal.cluster.metadata("a") == ["note"]
            await one.journal.cluster.broadcast("to all")
            revocations = [Revocation("jti", "expired", 0, 1), Revocation("jti", "1", 0, float("inf"))]
            for each in revocations:
                await one.journal.revocations.add(each)
            assert await other.journal.revocations.load() == revocations[1:]
            kept = [update(id, retention=Retention(id, seconds)) for id, seconds in (("a", None), ("b", 5))]
            await one.journal.append_many(kept)
            one.advance(10)
            removal = Update("news", ServerSentEvent("a", "unretain", "c"), retention=Retention("a"))
            await one.journal.append(removal)
            other.journal.retained.missed()
            await other.journal.retained.read(None, 0, 1)
            await until(lambda: other.journal.retained.count == 0)
            await other.journal.stop()

    @pytest.mark.redis
    @pytest_twisted.ensureDeferred
    async def test_tls(
        self,
        tmp_path: Path,
        certificate: Path,
        opened: Callable[..., Subject],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """
        A journal connects to Redis over TLS, and rejects a certificate that it cannot verify.
        """
        port = free_port()
        options = {
            "tls-port": str(port),
            "tls-cert-file": str(certificate),
            "tls-key-file": str(certificate),
            "tls-auth-clients": "no",
        }
        with running(tmp_path, **options):
            error = await problem_of(opened(f"rediss://localhost:{port}").start())
            assert "certificate verify failed" in error.problem
            trusted = trustRootFromCertificates([Certificate.loadPEM(certificate.read_bytes())])
            options_for = connection_module.optionsForClientTLS  # type: ignore[attr-defined]
            monkeypatch.setattr(
                connection_module, "optionsForClientTLS", lambda host: options_for(host, trustRoot=trusted)
            )
            await use(opened(f"rediss://localhost:{port}"))

    @pytest.mark.slow
    @pytest_twisted.ensureDeferred
    async def test_no_server(self, opened: Callable[..., Subject]) -> None:
        """
        If no Redis listens at the address, the error names the address and the advice once.
        """
        port = free_port()
        for url in (f"redis://127.0.0.1:{port}", "unix:///nowhere/redis.sock"):
            error = await problem_of(opened(url).start())
            assert "cannot connect to" in error.problem
            assert error.problem.count("check that the server runs there") == 1

    @pytest_twisted.ensureDeferred
    async def test_command_on_a_lost_connection(self, shared_redis: RedisServer) -> None:
        """
        A command on a lost Redis connection fails at once.
        """
        link = await connect(parse_url(shared_redis.url), timeout=2.0, reactor=reactor)
        link.cut()
        await link.when_lost
        assert (await problem_of(link.ask("PING"))).problem == "the connection is lost"

    @pytest_twisted.ensureDeferred
    async def test_cancelled(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        A caller can cancel an attempt to connect to Redis.
        """

        class Never:
            def connect(self, factory: object) -> Deferred[object]:
                return Deferred()

        monkeypatch.setattr(connection_module, "_endpoint", lambda *_: Never())
        connecting = Deferred.fromCoroutine(connect(parse_url("redis://a"), timeout=2.0, reactor=reactor))
        connecting.cancel()
        with pytest.raises(CancelledError):
            await connecting


@pytest.mark.redis
class SentinelTests:
    @pytest_twisted.ensureDeferred
    async def test_failover(
        self, tmp_path: Path, opened: Callable[..., Subject], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        After a failover the journal asks a sentinel for the new master, and continues without a gap.
        """
        monkeypatch.setattr(redis_module, "_MAX_RETRY", 0.3)
        for name in ("master", "replica", "sentinel"):
            (tmp_path / name).mkdir()
        with (
            running(tmp_path / "master") as master,
            running(tmp_path / "replica", replicaof=f"127.0.0.1 {master.port}") as replica,
            sentinel(tmp_path / "sentinel", master.port) as port,
        ):
            assert "unknown" not in (master.ask("PING") or "")
            await until(lambda: "state=online" in (master.ask("INFO", "replication") or ""))
            url = f"redis+sentinel://127.0.0.1:1,127.0.0.1:{port}/main"
            error = await problem_of(opened(url.replace("main", "other")).start())
            assert "do not know a service other" in error.problem
            subject = opened(url)
            follower = await subject.start()
            await subject.append("1")
            await until(lambda: "slave0:" in (master.ask("INFO", "replication") or ""))
            # Wait until the replica has the update, and the sentinel knows the replica.
            master.ask("WAIT", "1", "1000")
            await until(lambda: "slaves=1" in (ask(port, "INFO", "sentinel") or ""))
            master.kill()
            await until(lambda: subject.journal.problem is not None)
            ask(port, "SENTINEL", "FAILOVER", "main")
            await until(lambda: "role:master" in (replica.ask("INFO", "replication") or ""))
            await until(lambda: subject.journal.problem is None)
            await subject.append("2")
            assert [update.id for _, update in follower.given] == ["1", "2"]
            assert not follower.missed

    @pytest_twisted.ensureDeferred
    async def test_replica(self, tmp_path: Path, opened: Callable[..., Subject]) -> None:
        """
        A journal does not start with a replica, and the error says to use the master.
        """
        with running(tmp_path) as server:
            server.ask("REPLICAOF", "127.0.0.1", "1")
            error = await problem_of(opened(server.url).start())
            assert "use the URL of its master" in error.problem


def redis_cli(port: int, password: str) -> Callable[..., str]:
    def ask(*command: str) -> str:
        program = shutil.which("redis-cli")
        assert program is not None
        arguments = [program, "-p", str(port), "--no-auth-warning", "-a", password, *command]
        return finish(arguments, check=True).stdout

    return ask
