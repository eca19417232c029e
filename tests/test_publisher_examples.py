"""
The example publishers in other languages, run as their users run them, against a real hub.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http.client import HTTPConnection
from http.cookies import SimpleCookie
from typing import NamedTuple
from urllib.parse import urlencode, urlsplit

import pytest

from tests.mercure.world import OTHER_SECRET, PATH, SECRET, old_token
from tests.processes import ROOT, finish, free_port, python, start
from tests.service.process import HUB_URL, Subscriber, publish, running
from tests.waiting import PATIENCE, wait_until
from txsse import EventStreamParser
from txsse.mercure.auth.mint import make_token

FOLDER = ROOT / "examples" / "publishers"

TEXT = "Grüße & co = 1+1\nzwei"


@contextmanager
def hub(*argv: str) -> Iterator[str]:
    """
    Run a hub, and yield its URL, which it accepts as the audience of tokens.
    """
    port = free_port()
    url = f"http://127.0.0.1:{port}{PATH}"
    audience = [f"--audience={url}", f"--audience={HUB_URL}"]
    with running(f"--listen=tcp:{port}:interface=127.0.0.1", f"--url={url}", *audience, *argv):
        yield url


def need(program: str, package: str) -> str:
    """
    Return the path of a program, or skip the test if it is missing.
    """
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"install Debian's package {package}")
    return found


def command(name: str) -> list[str]:
    """
    Return the command that runs an example.
    """
    if name == "publish.sh":
        need("curl", "curl")
        return ["/bin/sh", name]
    if name == "publish.php":
        return [need("php", "php-cli"), name]
    if name == "publish.mjs":
        return [need("node", "nodejs"), name]
    pytest.importorskip("requests", reason="pip install requests")
    return [sys.executable, name]


def run(name: str, environ: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """
    Publish with an example.
    """
    return finish([*command(name), "news", TEXT], cwd=FOLDER, env={"no_proxy": "*", **environ})


def access(url: str, key: str = SECRET) -> dict[str, str]:
    """
    Return the variables that an example reads: the hub's URL, a key and a token.
    """
    token = make_token(key, audience=url, expires=time.time() + 60, publish=["news"])
    return {"HUB_URL": url, "HUB_KEY": key, "HUB_TOKEN": token}


PROGRAMS = ("publish.sh", "publish_requests.py", "publish.php", "publish.mjs")


class ProgramTests:
    @pytest.mark.process
    @pytest.mark.parametrize("name", PROGRAMS)
    def test_published(self, name: str) -> None:
        """
        A subscriber gets the update that an example publishes, under the id that the example prints.
        """
        with hub() as url:
            done = run(name, access(url))
            assert done.returncode == 0, done.stderr
            subscriber = Subscriber(url)
            assert subscriber.read_until(TEXT) == [TEXT]
            [event] = [event for event in subscriber.events if event.data == TEXT]
            assert done.stdout == f"{event.id}\n"

    @pytest.mark.process
    @pytest.mark.parametrize("name", PROGRAMS)
    def test_refused(self, name: str) -> None:
        """
        An example whose key the hub does not trust fails and prints the status 401.
        """
        with hub() as url:
            done = run(name, access(url, OTHER_SECRET))
        assert done.returncode != 0
        assert "401" in done.stderr and "Traceback" not in done.stderr

    def test_all_are_tested(self) -> None:
        """
        Every example publisher is tested here and named in the README of its directory.
        """
        named = {path.name for path in FOLDER.iterdir() if path.is_file()}
        assert named == {*PROGRAMS, "django_view.py", "README.rst"}
        readme = (FOLDER / "README.rst").read_text(encoding="utf-8")
        assert not [name for name in named - {"README.rst"} if f"``{name}``" not in readme]


class Answer(NamedTuple):
    status: int
    headers: list[tuple[str, str]]
    body: str


@contextmanager
def django(url: str) -> Iterator[int]:
    """
    Run the example's Django project, and yield its port.
    """
    for package in ("django", "requests"):
        pytest.importorskip(package, reason=f"pip install {package}")
    port = free_port()
    command = python("django_view.py", "runserver", "--noreload", f"127.0.0.1:{port}")
    with start(command, cwd=FOLDER, env={"no_proxy": "*", **access(url)}) as program:

        def answers() -> bool:
            assert program.process.poll() is None, program.output
            return _answers(port)

        wait_until(answers, what=lambda: f"Django answers: {program.output}")
        yield port


def _answers(port: int) -> bool:
    with suppress(OSError):
        return request(port, "GET").status == 200
    return False


def request(port: int, method: str, form: Mapping[str, str] | None = None, cookie: str = "") -> Answer:
    """
    Send a request for the page.
    """
    connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Cookie": cookie}
    connection.request(method, "/", urlencode(form or {}), headers)
    answer = connection.getresponse()
    try:
        return Answer(answer.status, answer.getheaders(), answer.read().decode())
    finally:
        connection.close()


@pytest.mark.process
class DjangoTests:
    def test_page(self) -> None:
        """
        The Django example's page names the hub, and its cookie authorises the reader to see the updates that
        the form publishes.
        """
        with hub() as url, django(url) as port:
            page = request(port, "GET")
            topic = f"http://127.0.0.1:{port}/news"
            assert ("Link", f'<{url}>; rel="mercure", <{topic}>; rel="self"') in page.headers
            cookies = SimpleCookie()
            for name, value in page.headers:
                if name == "Set-Cookie":
                    cookies.load(value)
            cookie = cookies["__Secure-mercure_access_token"]
            assert cookie["secure"] and cookie["httponly"] and cookie["samesite"] == "Strict"
            assert cookie["path"] == PATH
            found = re.search('name="csrfmiddlewaretoken" value="([^"]+)"', page.body)
            assert found is not None and topic in page.body
            form = {"text": TEXT, "csrfmiddlewaretoken": found[1]}
            assert request(port, "POST", form).status == 403
            posted = request(port, "POST", form, f"csrftoken={cookies['csrftoken'].value}")
            assert posted.status == 302, posted.body
            assert self._read(url, topic, cookie.OutputString([])) == TEXT

    def _read(self, url: str, topic: str, cookie: str) -> str:
        parts = urlsplit(url)
        connection = HTTPConnection(parts.netloc, timeout=PATIENCE)
        try:
            query = urlencode({"match": topic, "last_event_id": "earliest"})
            connection.request("GET", f"{parts.path}?{query}", headers={"Cookie": cookie})
            response = connection.getresponse()
            assert response.status == 200, response.read()
            parser = EventStreamParser()
            while True:
                data = response.read1()
                assert data
                for event in parser.feed(data):
                    if event.event == "message":
                        return event.data
        finally:
            connection.close()


@pytest.mark.process
class CompatibilityTests:
    def test_older_client(self) -> None:
        """
        A hub in compatibility mode accepts an older client: a token with the claim ``mercure``, without
        audience and expiry, and topics named by the old parameter.
        """
        with hub("--compatibility", "--anonymous") as url:
            parts = urlsplit(url)
            connection = HTTPConnection(parts.netloc, timeout=PATIENCE)
            headers = {
                "Authorization": f"Bearer {old_token(publish=['*'])}",
                "Content-Type": "application/x-www-form-urlencoded",
            }
            connection.request("POST", parts.path, urlencode({"topic": "news", "data": TEXT}), headers)
            assert connection.getresponse().status == 200
            connection.close()
            publish(url, "news", "new")
            connection = HTTPConnection(parts.netloc, timeout=PATIENCE)
            connection.request("GET", f"{parts.path}?topic=news&lastEventID=earliest")
            response, parser = connection.getresponse(), EventStreamParser()
            texts: list[str] = []
            while "new" not in texts:
                data = response.read1()
                assert data
                texts += [event.data for event in parser.feed(data) if event.event == "message"]
            connection.close()
            assert texts == [TEXT, "new"]
