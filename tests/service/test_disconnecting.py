"""
Clients that are disconnected from the service, whose tokens are refused at all nodes and after restarts.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import time
import urllib.error
import urllib.request
from contextlib import closing
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest

from tests.journal.redis_server import RedisServer
from tests.mercure.world import SECRET, detail
from tests.mercure.world import sign as sign_claims
from tests.processes import ROOT, TWIST, finish, free_port, python, start
from tests.service.process import HUB_URL, Process, get, running, token
from tests.waiting import PATIENCE, wait_until

pytestmark = pytest.mark.process

LISTEN = "--listen=tcp:0:interface=127.0.0.1"
URL = f"--url={HUB_URL}"
GRANT = token(publish=[], subscribe=[], disconnect=True)


def of_user(**claims: Any) -> str:
    """
    Return a user's token, issued a minute ago.
    """
    now = int(time.time())
    details = [detail(["publish", "subscribe"], "*")]
    own = {"aud": HUB_URL, "iat": now - 60, "exp": now + 600, "authorization_details": details}
    return sign_claims({**own, **claims})


def post(url: str, form: dict[str, str], token: str) -> tuple[int, str]:
    """
    Return the status and the body of the response to a form.
    """
    request = urllib.request.Request(url, urlencode(form).encode(), {"Authorization": f"Bearer {token}"})
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def disconnect(process: Process, **form: str) -> Any:
    status, body = post(f"{process.urls[0]}/disconnect", form, GRANT)
    assert status == 200, body
    return json.loads(body)


def publish(process: Process, token: str) -> int:
    return post(process.urls[0], {"topic": "news", "data": "x"}, token)[0]


class Stream:
    """
    An open stream.
    """

    def __init__(self, process: Process, token: str) -> None:
        url = urlsplit(process.urls[0])
        self._connection = HTTPConnection(url.netloc, timeout=PATIENCE)
        self._connection.request(
            "GET", f"{url.path}?match=news", headers={"Authorization": f"Bearer {token}"}
        )
        self._response: HTTPResponse = self._connection.getresponse()
        self.status = self._response.status

    def read_to_the_end(self) -> bytes:
        """
        Read until the server ends the stream; it times out if the server does not.
        """
        return self._response.read()

    def close(self) -> None:
        self._connection.close()


class RestartTests:
    @pytest.mark.slow
    @pytest.mark.parametrize("kill", [False, True], ids=["stopped", "killed"])
    def test_sqlite(self, tmp_path: Path, kill: bool) -> None:
        """
        With a journal in SQLite, tokens are refused after a restart, also if the process was killed; the user
        can log in again.
        """
        options = [LISTEN, URL, f"--journal=sqlite:{tmp_path}/hub.sqlite"]
        ann, bob = of_user(sub="ann", jti="a1"), of_user(sub="bob", jti="b1")
        with running(*options) as process:
            with closing(Stream(process, ann)) as stream, closing(Stream(process, bob)) as other:
                assert (stream.status, other.status) == (200, 200)
                assert disconnect(process, sub="ann")["disconnected"] == 1
                stream.read_to_the_end()
                assert disconnect(process, jti="b1")["disconnected"] == 1
                other.read_to_the_end()
            assert [publish(process, each) for each in (ann, bob)] == [401, 401]
            if kill:
                process.process.kill()
                process.process.wait(PATIENCE)
            else:
                process.stop()
        with running(*options) as process:
            assert [publish(process, each) for each in (ann, bob)] == [401, 401]
            with closing(Stream(process, ann)) as stream:
                assert stream.status == 401
            again = of_user(sub="ann", jti="a2", iat=int(time.time()) + 1)
            assert publish(process, again) == 200
            assert publish(process, of_user(sub="bob", jti="b2")) == 200
            process.stop()

    def test_command(self, tmp_path: Path) -> None:
        """
        The command txsse disconnect closes the streams of a session, by the claim that the option names.
        """
        options = [LISTEN, URL, "--key-claim=session", "--revocation-lifetime=7d"]
        with running(*options) as process:
            with closing(Stream(process, of_user(session="s1"))) as stream:
                assert stream.status == 200
                command = python("-m", "txsse", "disconnect", process.urls[0], "--key", "s1")
                done = finish([*command, "--audience", HUB_URL], env={"TXSSE_KEY": SECRET})
                assert (done.returncode, done.stderr) == (0, "")
                assert done.stdout.startswith("1 stream was closed; the tokens are refused until ")
                stream.read_to_the_end()
            assert publish(process, of_user(session="s1")) == 401
            assert publish(process, of_user(sid="s1")) == 200
            process.stop()


@pytest.mark.redis
class ClusterTests:
    @pytest.mark.slow
    def test_two_nodes(self, shared_redis: RedisServer) -> None:
        """
        All nodes close the streams and refuse the tokens; so does a node that replaces one that was killed.
        """
        options = [LISTEN, URL, f"--journal={shared_redis.url}/13"]
        ann = of_user(sub="ann")
        with running(*options) as one:
            with running(*options) as other:
                streams = [Stream(process, ann) for process in (one, other, other)]
                assert [each.status for each in streams] == [200] * 3
                assert disconnect(one, sub="ann")["disconnected"] == 3
                for stream in streams:
                    stream.read_to_the_end()
                    stream.close()
                assert [publish(process, ann) for process in (one, other)] == [401, 401]
                other.process.kill()
                other.process.wait(PATIENCE)
            with running(*options) as third:
                assert publish(third, ann) == 401
                assert publish(third, of_user(sub="ann", iat=int(time.time()) + 1)) == 200
                third.stop()
            one.stop()

    @pytest.mark.slow
    def test_node_out_of_reach(self, shared_redis: RedisServer) -> None:
        """
        A node that hangs for so long that it does not count as alive closes the streams when it continues,
        and refuses the tokens that were revoked meanwhile.
        """
        options = [LISTEN, URL, f"--journal={shared_redis.url}/14"]
        ann = of_user(sub="ann")
        with running(*options) as one, running(*options) as other:
            with closing(Stream(other, ann)) as stream:
                assert stream.status == 200
                other.process.send_signal(signal.SIGSTOP)
                try:
                    form = {"sub": "ann"}
                    # Until the node no longer counts as alive, the others may not have finished.
                    wait_until(
                        lambda: post(f"{one.urls[0]}/disconnect", form, GRANT)[0],
                        lambda status: status == 200,
                    )
                finally:
                    other.process.send_signal(signal.SIGCONT)
                stream.read_to_the_end()
                wait_until(lambda: publish(other, ann), lambda status: status == 401)
            one.stop()
            other.stop()

    @pytest.mark.slow
    def test_redis_that_starts_later(self, tmp_path: Path) -> None:
        """
        Until the service has read the revoked tokens, it refuses all tokens with 503; then it accepts them.
        """
        server = RedisServer(tmp_path)
        options = [LISTEN, URL, f"--journal={server.url}", "--anonymous"]
        with running(*options) as process:
            url = f"{process.urls[0]}/disconnect"
            assert publish(process, of_user()) == 503
            status, body = post(url, {"sub": "ann"}, GRANT)
            assert (status, body) == (503, "the list of revoked tokens is currently unavailable\n")
            with closing(Stream(process, of_user())) as stream:
                assert stream.status == 503
            assert get(process.urls[0])[0] == 400
            server.start()
            try:
                wait_until(lambda: publish(process, of_user(sub="ann")), lambda status: status == 200)
                disconnect(process, sub="ann")
                assert publish(process, of_user(sub="ann")) == 401
                process.stop()
            finally:
                server.kill()


class DocumentedTests:
    @pytest.mark.slow
    def test_whole_way(self, tmp_path: Path) -> None:
        """
        The commands of the documentation log a user out, with curl: the stream ends, its token is refused,
        and a later one is accepted.
        """
        curl = shutil.which("curl")
        if curl is None:
            pytest.skip("install Debian's package curl")
        text = (ROOT / "docs" / "authentication.rst").read_text(encoding="utf-8")
        section = text.partition("Log a user of the service out\n")[2].partition("\n1. At the log-in")[0]
        lines = re.findall(r"^   \$ (.*)$", section, re.MULTILINE)
        expected = re.findall(r"^   ([^$\s].*)$", section, re.MULTILINE)
        (tmp_path / "hub.key").write_text(SECRET)
        port = free_port()
        env = {"PATH": f"{Path(TWIST).parent}:{os.environ['PATH']}"}
        with running(f"--listen=tcp:{port}:interface=127.0.0.1") as process:
            [hub] = process.urls
            begin = [f"HUB={hub}", "export TXSSE_KEY=$(cat hub.key)"]
            assert [line.partition("=")[0] for line in lines[:2]] == ["HUB", "export TXSSE_KEY"]

            def run(*commands: str) -> str:
                script = "\n".join(["set -e", *begin, *commands])
                return finish(["bash", "-c", script], env=env, cwd=tmp_path, check=True).stdout

            log_in, stream, grant, log_out, again, second_log_in = lines[2:]
            run(log_in)
            script = "\n".join([*begin, stream])
            with start(["bash", "-c", script], env=env, cwd=tmp_path) as reading:
                reading.wait_for("^id: ")
                said = run(grant, log_out)
                assert said.startswith('{"disconnected":1,"refused_until":"')
                assert expected[0].startswith('{"disconnected":1,"refused_until":"')
                assert reading.wait() == 0
            assert run(again).strip() == expected[1]
            # Within the same second, the new token would be refused.
            time.sleep(1)
            run(second_log_in)
            with start(["bash", "-c", script], env=env, cwd=tmp_path) as reading:
                reading.wait_for("^id: ")
            process.stop()
