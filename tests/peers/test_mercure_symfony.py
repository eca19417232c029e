"""
Symfony's Mercure component against a hub: the version that Debian packages, and the recorded requests of
other versions.
"""

from __future__ import annotations

import json
import shutil
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import jwt
import pytest

from tests.mercure.world import PATH, SECRET
from tests.needs import needs
from tests.peers.mercure import BOOKS, LISTEN, URL, old_token
from tests.processes import finish
from tests.service.process import HUB_URL, publish, running
from tests.waiting import PATIENCE
from txsse import EventStreamParser, ServerSentEvent

PACKAGES = [
    "php-cli",
    "php-symfony-mercure",
    "php-symfony-http-client",
    "php-symfony-http-foundation",
    "php-twig",
]

# A request of symfony/mercure 0.6.3 by symfony/http-client 5.4 without PHP's extension curl; other versions
# have written the same body since 0.3.
RECORDED = (
    "POST {path} HTTP/1.1\r\n"
    "Connection: close\r\n"
    "Content-Type: application/x-www-form-urlencoded\r\n"
    "Accept: */*\r\n"
    "Content-Length: {length}\r\n"
    "Authorization: Bearer {token}\r\n"
    "Accept-Encoding: gzip\r\n"
    "User-Agent: Symfony HttpClient/Native\r\n"
    "Host: {host}\r\n"
    "\r\n"
    "{body}"
)

# The bodies of updates: topics are repeated, without brackets, and absent fields are left out.
BODIES = {
    "one topic": "topic=https%3A%2F%2Fdemo.mercure.rocks%2Fdemo%2Fbooks%2F1.jsonld&data=Hi+from+Symfony%21",
    "private": "topic=https%3A%2F%2Fdemo.mercure.rocks%2Fdemo%2Fbooks%2F1.jsonld"
    "&data=Hi+from+Symfony%21&private=on&id=id&retry=3",
    "JSON": "topic=https%3A%2F%2Fdemo.mercure.rocks%2Fdemo%2Fbooks%2F1.jsonld"
    "&data=%7B%22status%22%3A%22gr%C3%B6%C3%9Fer%22%7D",
    "all": "topic=https%3A%2F%2Fdemo.mercure.rocks%2Fdemo%2Fbooks%2F1.jsonld"
    "&topic=https%3A%2F%2Fexample.com%2Fusers%2Fkevin%2F%3Ftopic%3D1"
    "&data=one%0Atwo&private=on&id=urn%3Ax%3A7&type=tick&retry=3000",
    "no data": "topic=https%3A%2F%2Fdemo.mercure.rocks%2Fdemo%2Fbooks%2F1.jsonld&data=&id=urn%3Ax%3A8",
}

EXPECTED = {
    "one topic": (None, "Hi from Symfony!", "message", None),
    "private": ("id", "Hi from Symfony!", "message", 0.003),
    "JSON": (None, '{"status":"größer"}', "message", None),
    "all": ("urn:x:7", "one\ntwo", "tick", 3.0),
    "no data": ("urn:x:8", "", "message", None),
}

TOPIC = "https://demo.mercure.rocks/demo/books/1.jsonld"


def token_of_0_x(publish: list[str], subscribe: list[str], lifetime: float = 3600) -> str:
    """
    Return a token as symfony/mercure signs it for hubs before Mercure 1.0, with lcobucci/jwt 4, whose times
    are fractions.
    """
    claims = {"exp": time.time() + lifetime, "mercure": {"publish": publish, "subscribe": subscribe}}
    return jwt.encode(claims, SECRET, "HS256", headers={"typ": "JWT"})


def token_of_1_0(grants: list[tuple[list[str], list[dict[str, str]]]], audience: str = HUB_URL) -> str:
    """
    Return a token as symfony/mercure 0.8 signs it for hubs of Mercure 1.0, with a detail for each grant.
    """
    now = time.time()
    claims = {
        "iss": "https://app.example",
        "sub": "my-app",
        "client_id": "my-app",
        "aud": audience,
        "authorization_details": [
            {"type": "https://mercure.rocks/authorization-detail", "actions": actions, "topics": topics}
            for actions, topics in grants
        ],
        "iat": now,
        "jti": "0123456789abcdef0123456789abcdef",
        "exp": now + 3600,
    }
    return jwt.encode(claims, SECRET, "HS256", headers={"typ": "at+jwt"})


EVERYTHING_1_0 = [(["subscribe"], [{"match": "*"}]), (["publish"], [{"match": "*"}])]


@pytest.fixture(scope="module")
@needs("process")
def hub() -> Iterator[str]:
    """
    Run a hub, and return its URL.
    """
    with running(LISTEN, URL) as process:
        yield process.urls[0]
        process.stop()


@pytest.fixture(scope="module")
@needs("process")
def old_hub() -> Iterator[str]:
    """
    Run a hub in compatibility mode, and return its URL.
    """
    with running(LISTEN, URL, "--compatibility") as process:
        yield process.urls[0]
        process.stop()


def replay(url: str, token: str, body: str) -> tuple[int, str]:
    """
    Send a recorded request, and return the status and the body of the response.
    """
    parts = urlsplit(url)
    request = RECORDED.format(path=parts.path, host=parts.netloc, token=token, length=len(body), body=body)
    answer = b""
    with socket.create_connection((parts.hostname, parts.port), PATIENCE) as connection:
        connection.sendall(request.encode("ascii"))
        while data := connection.recv(65536):
            answer += data
    head, _, text = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), text.decode()


class Stream:
    """
    A subscription with any URL and header fields.

    :ivar events: the events received.
    """

    def __init__(self, url: str, **headers: str) -> None:
        self.events: list[ServerSentEvent] = []
        self._response = urllib.request.urlopen(
            urllib.request.Request(url, headers=headers), timeout=PATIENCE
        )
        self._parser = EventStreamParser()

    def read_until(self, data: str) -> list[ServerSentEvent]:
        """
        Read until an event has these data, and return all events.
        """
        with self._response:
            while data not in [event.data for event in self.events]:
                piece = self._response.read1()
                assert piece, self.events
                self.events += self._parser.feed(piece)
        return self.events


def texts(events: list[ServerSentEvent]) -> list[str]:
    """
    Return the data of events.
    """
    return [event.data for event in events]


class RecordedTests:
    @pytest.mark.process
    @pytest.mark.parametrize("name", BODIES)
    @pytest.mark.parametrize("version", ["0.x", "1.0"])
    def test_publish(self, hub: str, old_hub: str, version: str, name: str) -> None:
        """
        The hub accepts Symfony's recorded publications, and delivers them with all their fields.
        """
        id, data, type, retry = EXPECTED[name]
        if version == "0.x":
            url, access, query = old_hub, token_of_0_x(["*"], ["*"]), f"topic={quote(TOPIC, '')}"
        else:
            url, access, query = hub, token_of_1_0(EVERYTHING_1_0), f"match={quote(TOPIC, '')}"
        stream = Stream(f"{url}?{query}", Authorization=f"Bearer {access}")
        status, answer = replay(url, access, BODIES[name])
        assert status == 200
        assert answer.startswith("urn:uuid:") if id is None else answer == id
        publish(url, TOPIC, f"after {name}")
        events = stream.read_until(f"after {name}")
        got = [(each.id, each.data, each.event, each.retry) for each in events[:-1]]
        assert got == [(answer, data, type, retry)]

    def test_other_topics(self, old_hub: str, hub: str) -> None:
        """
        The hub refuses Symfony's publications with a token for other topics, for another audience, or after
        its expiry.
        """
        assert replay(old_hub, token_of_0_x([f"{BOOKS}/{{id}}"], []), BODIES["private"])[0] == 403
        assert replay(old_hub, token_of_0_x(["*"], [], lifetime=-1), BODIES["private"])[0] == 401
        only = [{"match": f"{BOOKS}/:id", "match_type": "urlpattern"}]
        assert replay(hub, token_of_1_0([(["publish"], only)]), BODIES["private"])[0] == 403
        other = token_of_1_0(EVERYTHING_1_0, audience="https://other.example/.well-known/mercure")
        assert replay(hub, other, BODIES["private"])[0] == 401

    @pytest.mark.parametrize(
        "parameters", ["&Last-Event-ID={id}", "&lastEventID={id}&Last-Event-ID={id}"], ids=["once", "twice"]
    )
    def test_last_event_id(self, old_hub: str, parameters: str) -> None:
        """
        The hub resumes from the id in the URLs that Symfony writes into pages, by either or both of its older
        names.
        """
        books = f"{BOOKS}/{len(parameters)}"
        publish(old_hub, f"{books}/1", "before")
        id = quote(publish(old_hub, f"{books}/1", "first"), "")
        publish(old_hub, f"{books}/1", "second", private="on")
        url = f"{old_hub}?topic={quote(f'{books}/1', '')}&topic=news{parameters.format(id=id)}"
        cookie = f"mercureAuthorization={token_of_0_x([], [f'{books}/{{id}}'])}"
        assert texts(Stream(url, Cookie=cookie).read_until("second")) == ["second"]

    def test_1_0(self, hub: str) -> None:
        """
        A Mercure 1.0 hub accepts Symfony's cookie with a pattern grant, and resumes by ``last_event_id`` but
        not by the older names.
        """
        grants = [(["subscribe"], [{"match": f"{BOOKS}/:id", "match_type": "urlpattern"}])]
        pattern = quote(f"{BOOKS}/:id", "")
        cookie = f"__Secure-mercure_access_token={token_of_1_0(grants)}"
        id = publish(hub, f"{BOOKS}/1", "first")
        publish(hub, f"{BOOKS}/2", "second", private="on")
        url = f"{hub}?match=news&match_urlpattern={pattern}"
        stream = Stream(f"{url}&last_event_id={quote(id, '')}", Cookie=cookie)
        assert texts(stream.read_until("second")) == ["second"]
        # 0.8 still writes the older names, which this hub ignores: the stream begins with new updates.
        stream = Stream(f"{url}&lastEventID={quote(id, '')}&Last-Event-ID={quote(id, '')}", Cookie=cookie)
        publish(hub, "news", "private", private="on")
        publish(hub, "news", "last")
        assert texts(stream.read_until("last")) == ["last"]


@pytest.fixture(scope="module")
@needs("node", "process")
def php() -> str:
    """
    Return the path of PHP; skip the tests if Symfony's component is missing.
    """
    found = shutil.which("php")
    needed = "foreach (json_decode($argv[1]) as $each) if (!stream_resolve_include_path($each)) exit(1);"
    files = ["Symfony/Component/Mercure/autoload.php", "Twig/autoload.php"]
    if found is None or finish([found, "-r", needed, json.dumps(files)]).returncode:
        pytest.skip(f"install Debian's packages {', '.join(PACKAGES)}")
    return found


@pytest.mark.process
class SymfonyTests:
    """
    Symfony's component itself, run by PHP.
    """

    def ask(self, php: str, url: str, **asked: Any) -> dict[str, Any]:
        """
        Run the component with this input, and return its output.
        """
        done = finish(
            [php, "-d", "display_errors=stderr", Path(__file__).with_name("symfony.php")],
            input=json.dumps({"url": url, "secret": SECRET, **asked}),
            check=True,
        )
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def test_publish(self, php: str, old_hub: str) -> None:
        """
        Symfony publishes to a hub in compatibility mode, and the updates are delivered with all their fields.
        """
        topics = [f"{BOOKS}/symfony", f"{BOOKS}/symfony?a=1&b=2"]
        stream = Stream(
            f"{old_hub}?topic={quote(topics[1], '')}", Authorization=f"Bearer {old_token(subscribe=['*'])}"
        )
        updates = [
            [topics, "größe & co\n+", True, "urn:symfony:1", "tick", 3000],
            [topics[1], '{"a": 1}'],
            ["elsewhere", "not subscribed"],
            [topics, "last"],
        ]
        ids = self.ask(php, old_hub, updates=updates)["ids"]
        assert ids[0] == "urn:symfony:1" and all(id.startswith("urn:uuid:") for id in ids[1:])
        events = stream.read_until("last")
        assert [(each.id, each.event, each.data) for each in events] == [
            ("urn:symfony:1", "tick", "größe & co\n+"),
            (ids[1], "message", '{"a": 1}'),
            (ids[3], "message", "last"),
        ]
        assert events[0].retry == 3.0

    def test_1_0(self, php: str, hub: str) -> None:
        """
        Symfony publishes to a hub without compatibility mode if it is given a Mercure 1.0 token.
        """
        stream = Stream(f"{hub}?match=symfony", Authorization=f"Bearer {token_of_1_0(EVERYTHING_1_0)}")
        updates = [["symfony", "private", True], [["symfony", "other"], "last"]]
        answer = self.ask(php, hub, token=token_of_1_0(EVERYTHING_1_0), updates=updates)
        events = stream.read_until("last")
        assert [(each.id, each.data) for each in events] == [
            *zip(answer["ids"], ["private", "last"], strict=True)
        ]

    def test_refused(self, php: str, hub: str, old_hub: str) -> None:
        """
        Symfony reports the hub's status for a refused publication.
        """
        one = [["news", "refused"]]
        assert self.ask(php, old_hub, publish=["other"], updates=one)["ids"] == [403]
        assert self.ask(php, old_hub, updates=[["*", "refused"]])["ids"] == [400]
        # Its own tokens predate Mercure 1.0.
        assert self.ask(php, hub, updates=one)["ids"] == [401]

    def test_page(self, php: str, old_hub: str) -> None:
        """
        The URL and the cookie that Symfony writes into a page resume the stream, with private updates, and
        its link names the hub.
        """
        books = f"{BOOKS}/twig"
        publish(old_hub, f"{books}/1", "before")
        id = publish(old_hub, f"{books}/1", "first")
        publish(old_hub, f"{books}/2", "private", private="on")
        publish(old_hub, "secret", "not granted", private="on")
        options = {"subscribe": [f"{books}/{{id}}"], "lastEventId": id}
        answer = self.ask(php, old_hub, page=[[f"{books}/1", f"{books}/2", "secret"], options])
        [cookie] = answer["cookies"]
        morsel = SimpleCookie(cookie)["mercureAuthorization"]
        assert (morsel["path"], morsel["samesite"]) == (PATH, "strict")
        assert morsel["httponly"]
        stream = Stream(answer["url"], Cookie=f"mercureAuthorization={morsel.value}")
        publish(old_hub, f"{books}/2", "last")
        assert texts(stream.read_until("last")) == ["private", "last"]
        assert answer["link"] == f'<{old_hub}>; rel="mercure"'

    def test_page_without_grants(self, php: str, old_hub: str) -> None:
        """
        A page of Symfony without grants gets no cookie, and the hub refuses its subscription.
        """
        answer = self.ask(php, old_hub, page=[["news"], {}])
        assert answer["cookies"] == []
        with pytest.raises(urllib.error.HTTPError) as raised:
            Stream(answer["url"])
        with raised.value:
            assert raised.value.code == 401
