"""
Retained updates of the service as a process: the commands, a client that subscribes later, and the limits.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest

from tests.mercure.world import PATH, SECRET
from tests.processes import ROOT, TWIST, finish, free_port, python, start
from tests.service.process import HUB_URL, Process, Subscriber, get, running

pytestmark = pytest.mark.process

LISTEN = "--listen=tcp:0:interface=127.0.0.1"
URL = f"--url={HUB_URL}"


def hub_of(process: Process) -> str:
    """
    Return the hub's URL, whether or not the service listens for its operator, too.
    """
    (url,) = (each for each in process.urls if each.endswith(PATH))
    return url


def txsse(process: Process, command: str, *arguments: str) -> tuple[int, str, str]:
    """
    Run a command with the hub's key, and return its exit status, output and errors.
    """
    given = ["-m", "txsse", command, hub_of(process), *arguments, "--audience", HUB_URL]
    done = finish(python(*given), env={"TXSSE_KEY": SECRET})
    return done.returncode, done.stdout, done.stderr


class ServiceTests:
    def test_newcomer(self) -> None:
        """
        A client that subscribes after txsse publish --retain is sent the newest update of each key, and no
        more what txsse unretain has removed; a second txsse unretain fails with the reason.
        """
        with running(LISTEN, URL, "--admin=tcp:0:interface=127.0.0.1", listens=2) as process:
            for key, data in (("k1", "old"), ("k2", "two"), ("k1", "new")):
                status, id, err = txsse(
                    process, "publish", "news", data, "--retain", key, "--retain-for", "60"
                )
                assert (status, err) == (0, "") and id.startswith("urn:uuid:")
            reader = Subscriber(hub_of(process), last_event_id="")
            assert reader.read_until("new") == ["two", "new"]
            assert {event.id for event in reader.events} == {""}
            assert txsse(process, "unretain", "news", "k1", "--id", "7") == (0, "7\n", "")
            status, out, err = txsse(process, "unretain", "news", "k1")
            assert (status, out) == (1, "")
            assert "(the hub says: no update with this key is retained under these topics)" in err
            assert txsse(process, "publish", "news", "end", "--retain", "k3")[0] == 0
            assert Subscriber(hub_of(process), last_event_id="").read_until("end") == ["two", "end"]
            (ready,) = (each for each in process.urls if each.endswith("/health/ready"))
            metrics = get(ready.replace("/health/ready", "/metrics"))[1]
            assert "txsse_retained 2.0" in metrics
            assert "txsse_retained_delivered_total 4.0" in metrics
            process.stop()

    def test_full(self) -> None:
        """
        Beyond the limit of the journal and of a publisher, txsse publish --retain fails with the reason.
        """
        with running(LISTEN, URL, "--retained-count=2") as process:
            for key in ("k1", "k2", "k1"):
                assert txsse(process, "publish", "news", "x", "--retain", key)[0] == 0
            status, out, err = txsse(process, "publish", "news", "x", "--retain", "k3")
            assert (status, out) == (1, "")
            assert err.startswith("txsse publish: the hub has no room to retain the update")
            assert "at most 2 updates" in err and err.count("\n") == 1
            process.stop()
        with running(LISTEN, URL, "--retained-per-token=1") as process:
            token = finish(
                python(
                    "-m", "txsse", "token", "--audience", HUB_URL, "--subject", "ann", "--publish", "news"
                ),
                env={"TXSSE_KEY": SECRET},
            ).stdout
            statuses = []
            for key in ("k1", "k2", "k1"):
                command = python("-m", "txsse", "publish", process.urls[0], "news", "x", "--retain", key)
                done = finish(command, env={"TXSSE_TOKEN": token})
                statuses.append(done.returncode)
            assert statuses == [0, 1, 0]
            process.stop()


class DocumentedTests:
    @pytest.mark.slow
    def test_commands(self, tmp_path: Path) -> None:
        """
        The commands of the documentation retain an update with curl, read it, and remove it, with the
        documented responses.
        """
        if shutil.which("curl") is None:
            pytest.skip("install Debian's package curl")
        text = (ROOT / "docs" / "service.rst").read_text(encoding="utf-8")
        section = text.partition("\nRetained updates\n")[2].partition("\nReplacing the update")[0]
        section = re.sub(r"\\\n +", "", section)
        lines = re.findall(r"^   \$ (.*)$", section, re.MULTILINE)
        expected = re.findall(r"^   (?! )([^$\s.].*)$", section, re.MULTILINE)
        (tmp_path / "hub.key").write_text(SECRET)
        env = {"PATH": f"{Path(TWIST).parent}:{os.environ['PATH']}"}
        with running(f"--listen=tcp:{free_port()}:interface=127.0.0.1") as process:
            begin = [f"HUB={process.urls[0]}", "export TXSSE_KEY=$(cat hub.key)"]
            assert [line.partition("=")[0] for line in lines[:2]] == ["HUB", "export TXSSE_KEY"]

            def run(*commands: str) -> str:
                script = "\n".join(["set -e", *begin, *commands])
                return finish(["bash", "-c", script], env=env, cwd=tmp_path, check=True).stdout

            publisher, publish, reader, read, remove, again = lines[2:]
            id = run(publisher, publish)
            assert expected[0].startswith("urn:uuid:") and id.startswith("urn:uuid:")
            run(reader)
            with start(["bash", "-c", "\n".join([*begin, read])], env=env, cwd=tmp_path) as reading:
                reading.wait_for("^id: ")
                assert expected[1:3] == ['data: {"lamp-7": "on"}', f"id: {expected[0]}"]
                assert f"{expected[1]}\n\nid: {id}\n" in reading.output
                assert run(remove).startswith("urn:uuid:")
                reading.wait_for("^event: unretain")
            assert run(again).strip() == expected[-1]
            process.stop()
