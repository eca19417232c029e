"""
The rules of the WHATWG standard for connections, one by one: the client on the real reactor, against a real
site that sends scripted responses.

Source of the rules, and of the words in quotes:
https://html.spec.whatwg.org/multipage/server-sent-events.html, sections 9.2.2 to 9.2.5, and the parts of
https://fetch.spec.whatwg.org/ that they refer to.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import endpoints, reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError, ConnectionRefusedError
from twisted.internet.tcp import Connection, Port
from twisted.web.http_headers import Headers
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from tests.integration.clients import listen, site_of
from tests.integration.test_client import HEAD, Script, scripted
from tests.waiting import until
from txsse import EventSource, ReadyState, ServerSentEvent, StreamEnded, StreamRefused
from txsse.testing import CUT, HOLD, Reply, ScriptedResource, Step, Visit

Steps = list[Step]

REDIRECTS = [301, 302, 303, 307, 308]


@dataclass
class Server:
    """
    A server that sends scripted responses.

    :ivar url: its URL.
    :ivar visits: the requests that it received.
    """

    url: str
    resource: ScriptedResource

    @property
    def visits(self) -> list[Visit]:
        return self.resource.visits


@asynccontextmanager
async def serving(*replies: Reply | Steps) -> AsyncIterator[Server]:
    """
    Serve scripted responses; at the end, wait until the clients have disconnected.
    """
    resource = ScriptedResource(replies)
    port = await listen(resource)
    try:
        yield Server(f"http://127.0.0.1:{port.getHost().port}/", resource)
        await until(lambda: not resource.open)
    finally:
        await port.stopListening()


@asynccontextmanager
async def answering(play: Callable[[Script, bytes], None]) -> AsyncIterator[str]:
    """
    Run a server that passes each request to a function, which sends the response; yield its URL.
    """
    port: Any = await scripted(play)
    try:
        yield f"http://127.0.0.1:{port.getHost().port}/"
    finally:
        await port.stopListening()


@dataclass
class Followed:
    """
    A source, with the events and errors that it reported.

    :ivar states: the state of the source at each event and error.
    """

    source: EventSource
    events: list[ServerSentEvent] = field(default_factory=list)
    errors: list[Exception] = field(default_factory=list)
    states: list[ReadyState] = field(default_factory=list)

    @property
    def texts(self) -> list[str]:
        return [event.data for event in self.events]


@asynccontextmanager
async def following(url: str, **options: Any) -> AsyncIterator[Followed]:
    """
    Follow a stream, with short waits between attempts; at the end, close the source.
    """

    def received(event: ServerSentEvent) -> None:
        followed.events.append(event)
        followed.states.append(source.ready_state)

    def failed(error: Exception) -> None:
        followed.errors.append(error)
        followed.states.append(source.ready_state)

    options = {"retry": 0.001, "max_retry": 0.01, "event_received": received, "on_error": failed, **options}
    source = EventSource(url, **options)
    followed = Followed(source)
    source.start()
    try:
        yield followed
    finally:
        source.close()


@dataclass
class Played:
    """
    The outcome of a script that has been played to its end.

    :ivar ids: the ``Last-Event-ID`` of each request.
    :ivar end: the status that ended it.
    """

    visits: list[Visit]
    events: list[ServerSentEvent]
    errors: list[Exception]
    end: int

    @property
    def ids(self) -> list[str | None]:
        return [visit.last_event_id for visit in self.visits]

    @property
    def texts(self) -> list[str]:
        return [event.data for event in self.events]


async def played(*replies: Reply | Steps, **options: Any) -> Played:
    """
    Follow a script until the server refuses a stream, as it does after the last reply with a 204.
    """
    async with serving(*replies) as server, following(server.url, **options) as followed:
        error = await followed.source.when_closed()
        assert isinstance(error, StreamRefused)
        return Played(server.visits, followed.events, followed.errors, error.status)


def redirect(status: int, location: str) -> Reply:
    return Reply(["moved"], status=status, headers={"Location": location, "Content-Type": "text/plain"})


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    """
    Check that the test leaves no delayed call, connection or port in the reactor.
    """
    yield

    def left() -> list[object]:
        sockets = [reader for reader in reactor.getReaders() if isinstance(reader, (Connection, Port))]
        return [*sockets, *reactor.getDelayedCalls()]

    try:
        pytest_twisted.blockon(Deferred.fromCoroutine(until(lambda: not left())))
    except AssertionError:
        # Collected again: during the wait, the reactor had a call of the wait itself.
        raise AssertionError(f"left in the reactor: {left()}") from None


class RequestTests:
    @pytest_twisted.ensureDeferred
    async def test_headers(self) -> None:
        """
        The request is a GET that accepts only text/event-stream, forbids a cached response, and at first has
        no Last-Event-ID.
        """
        (visit,) = (await played()).visits
        assert (visit.method, visit.path, visit.body) == ("GET", "/", b"")
        assert visit.headers["accept"] == "text/event-stream"
        assert visit.headers["cache-control"] == "no-cache"
        assert "last-event-id" not in visit.headers

    @pytest_twisted.ensureDeferred
    async def test_same_on_reconnection(self) -> None:
        """
        The client reconnects with the same request.
        """
        first, second, third = (await played([""], [CUT], headers={"X-Own": "1"})).visits
        assert first == second == third
        assert third.headers["x-own"] == "1"

    @pytest_twisted.ensureDeferred
    async def test_post(self) -> None:
        """
        A POST request can open a stream, and the client sends its body with each attempt.
        """
        script = await played(
            ["id: 1\ndata: a\n\n"],
            ["data: b\n\n", CUT],
            method="POST",
            body=b'{"stream": true}',
            headers={"Content-Type": "application/json"},
        )
        assert script.texts == ["a", "b"]
        assert script.ids == [None, "1", "1"]
        for visit in script.visits:
            assert (visit.method, visit.body) == ("POST", b'{"stream": true}')
            assert visit.headers["content-type"] == "application/json"
            assert visit.headers["content-length"] == "16"

    @pytest_twisted.ensureDeferred
    @pytest.mark.parametrize(
        "headers",
        [
            {"X-Own": "ä"},
            Headers({b"X-Own": ["ä".encode()]}),
        ],
    )
    async def test_header_fields_of_the_program(self, headers: Any) -> None:
        """
        The program's header fields are sent unchanged, text as UTF-8.
        """
        (visit,) = (await played(headers=headers)).visits
        assert visit.headers["x-own"].encode("latin-1") == "ä".encode()


class LastEventIdTests:
    @pytest_twisted.ensureDeferred
    async def test_on_reconnection(self) -> None:
        """
        A client that has a last event ID sends it as Last-Event-ID when it reconnects, encoded as UTF-8.
        """
        script = await played(["id: ä€𝄞 1\ndata: a\n\n"], ["id: 2\ndata: b\n\n", CUT])
        assert script.ids == [None, "ä€𝄞 1", "2"]
        assert script.visits[1].headers["last-event-id"].encode("latin-1") == "ä€𝄞 1".encode()

    @pytest_twisted.ensureDeferred
    async def test_given_by_the_program(self) -> None:
        """
        A last event ID that the program gives is sent with the first request.
        """
        script = await played(["data: a\n\n"], last_event_id="ä 7")
        assert script.ids == ["ä 7", "ä 7"]
        assert script.events[0].id == "ä 7"

    @pytest_twisted.ensureDeferred
    @pytest.mark.parametrize("line", ["id", "id:", "id: "])
    async def test_id_without_a_value(self, line: str) -> None:
        """
        "If the id field has no value, this will reset the last event ID to the empty string", so that the
        next request has no Last-Event-ID.
        """
        script = await played(["id: 1\ndata: a\n\n"], [f"{line}\ndata: b\n\n"], [])
        assert script.ids == [None, "1", None, None]
        assert [event.id for event in script.events] == ["1", ""]

    @pytest_twisted.ensureDeferred
    async def test_stream_without_ids(self) -> None:
        """
        The last event ID "remains set to this value until the next time it is set by the server", over any
        number of streams.
        """
        script = await played(["id: 1\ndata: a\n\n"], ["data: b\n\n"], [CUT], ["id: 2\ndata: c\n\n"])
        assert script.ids == [None, "1", "1", "1", "2"]
        assert [event.id for event in script.events] == ["1", "1", "2"]

    @pytest_twisted.ensureDeferred
    async def test_block_without_data(self) -> None:
        """
        A block with an ID and no data is no event, and sets the last event ID.
        """
        script = await played(["data: a\n\nid: 9\n\n"], ["data: b\n\n"])
        assert script.ids == [None, "9", "9"]
        assert [event.id for event in script.events] == ["", "9"]

    @pytest_twisted.ensureDeferred
    async def test_two_ids_in_a_block(self) -> None:
        """
        The last id field of a block counts.
        """
        assert (await played(["id: 1\nid: 2\ndata: a\n\n"])).ids == [None, "2"]

    @pytest_twisted.ensureDeferred
    async def test_null(self) -> None:
        """
        An id field that contains U+0000 NULL is ignored, and the last event ID stays.
        """
        script = await played(["id: 1\ndata: a\n\nid: 2\0\ndata: b\n\n"])
        assert script.ids == [None, "1"]
        assert [event.id for event in script.events] == ["1", "1"]

    @pytest_twisted.ensureDeferred
    @pytest.mark.parametrize("end", [[], [CUT]])
    async def test_id_of_unfinished_event(self, end: Steps) -> None:
        """
        An ID counts only after the empty line that ends its block.
        """
        script = await played(["id: 1\ndata: a\n\nid: 2\ndata: b\n", *end], ["data: c\n\n"])
        assert script.ids == [None, "1", "1"]
        assert script.texts == ["a", "c"]
        assert script.events[1].id == "1"

    @pytest_twisted.ensureDeferred
    async def test_id_with_a_space(self) -> None:
        """
        One space after the colon is not part of an ID and a second one is; in Last-Event-ID, HTTP strips that
        second space.
        """
        script = await played(["id:  x\ndata: a\n\n"])
        assert [event.id for event in script.events] == [" x"]
        assert script.ids == [None, "x"]


class RedirectTests:
    @pytest_twisted.ensureDeferred
    @pytest.mark.parametrize("status", REDIRECTS)
    @pytest.mark.parametrize("location", ["/b?x=1", "b?x=1", "//{authority}/b?x=1", "{url}b?x=1#here"])
    async def test_followed(self, status: int, location: str) -> None:
        """
        Each redirect status is followed to a Location relative to the request's URL, without the fragment.
        """
        replies: list[Reply | Steps] = []
        resource = ScriptedResource(replies)
        port = await listen(resource)
        authority = f"127.0.0.1:{port.getHost().port}"
        url = f"http://{authority}/"
        replies += [redirect(status, location.format(authority=authority, url=url)), ["data: a\n\n"]]
        async with following(url + "a") as followed:
            await followed.source.when_closed()
            # When the script is over, the client sends one more request, which is answered with a 204.
            assert [visit.path for visit in resource.visits] == ["/a", "/b?x=1", "/b?x=1"]
            assert {visit.method for visit in resource.visits} == {"GET"}
            assert followed.texts == ["a"]
            assert followed.source.url == url + "b?x=1"
        await port.stopListening()

    @pytest_twisted.ensureDeferred
    async def test_chain(self) -> None:
        """
        The client follows a chain of redirects, and reconnects to the URL where it ended.
        """
        async with (
            serving(["id: 1\ndata: a\n\n"], redirect(302, "/d"), ["data: b\n\n"]) as last,
            serving(redirect(301, "/b"), redirect(307, last.url + "c")) as first,
            following(first.url + "a") as followed,
        ):
            assert followed.source.url == first.url + "a"
            await followed.source.when_closed()
            assert followed.texts == ["a", "b"]
            assert [visit.path for visit in first.visits] == ["/a", "/b"]
            assert [visit.path for visit in last.visits] == ["/c", "/c", "/d", "/d"]
            assert followed.source.url == last.url + "d"

    @pytest_twisted.ensureDeferred
    async def test_to_no_stream(self) -> None:
        """
        A redirect to a URL that refuses the stream ends the source, and the error names that URL.
        """
        async with (
            serving(redirect(302, "/b"), Reply(status=404)) as server,
            following(server.url) as followed,
        ):
            error = await followed.source.when_closed()
            assert isinstance(error, StreamRefused)
            assert (error.url, error.status) == (server.url + "b", 404)
            assert len(server.visits) == 2

    @pytest_twisted.ensureDeferred
    @pytest.mark.parametrize("status", REDIRECTS)
    async def test_post(self, status: int) -> None:
        """
        A redirect by 301, 302 or 303 turns a POST into a GET, without the body and the fields that describe
        it; 307 and 308 repeat the POST.
        """
        script = await played(
            redirect(status, "/b"),
            ["data: a\n\n"],
            method="POST",
            body=b"question",
            headers={"Content-Type": "text/plain", "X-Own": "1"},
        )
        before, *after = script.visits
        assert (before.method, before.body) == ("POST", b"question")
        assert [visit.path for visit in after] == ["/b", "/b"]
        assert script.texts == ["a"]
        for visit in after:
            assert visit.headers["x-own"] == "1"
            assert visit.headers["accept"] == "text/event-stream"
            if status in (307, 308):
                assert (visit.method, visit.body) == ("POST", b"question")
                assert visit.headers["content-type"] == "text/plain"
            else:
                assert (visit.method, visit.body) == ("GET", b"")
                assert "content-type" not in visit.headers
                assert "content-length" not in visit.headers

    @pytest_twisted.ensureDeferred
    async def test_credentials(self) -> None:
        """
        The program's header fields, such as credentials, are kept by redirects within an origin, and dropped
        permanently by one to another origin, such as another port.
        """
        headers = {"Authorization": "Bearer x", "Cookie": "a=b", "X-Own": "1"}
        async with (
            serving(["data: a\n\n"]) as other,
            serving(redirect(307, "/b"), redirect(307, other.url)) as own,
            following(own.url, headers=headers) as followed,
        ):
            await followed.source.when_closed()
            for visit in own.visits:
                assert (visit.headers["authorization"], visit.headers["cookie"]) == ("Bearer x", "a=b")
            assert (len(own.visits), len(other.visits)) == (2, 2)
            for visit in other.visits:
                assert not {"authorization", "cookie", "x-own"} & visit.headers.keys()

    @pytest_twisted.ensureDeferred
    async def test_last_event_id(self) -> None:
        """
        Last-Event-ID is sent to every redirect target, even in another origin.
        """
        async with (
            serving(["data: b\n\n"]) as other,
            serving(["id: 1\ndata: a\n\n"], redirect(307, "/b"), redirect(302, other.url)) as own,
            following(own.url) as followed,
        ):
            await followed.source.when_closed()
            assert [visit.last_event_id for visit in own.visits] == [None, "1", "1"]
            assert [visit.last_event_id for visit in other.visits] == ["1", "1"]

    @pytest_twisted.ensureDeferred
    @pytest.mark.parametrize("status", REDIRECTS)
    async def test_without_a_location(self, status: int) -> None:
        """
        A redirect without a Location is a refusal, like any status other than 200.
        """
        script = await played(Reply(status=status))
        assert (len(script.visits), script.end) == (1, status)

    @pytest_twisted.ensureDeferred
    async def test_ipv6(self) -> None:
        """
        A URL and a redirect may name an IPv6 address.
        """
        resource = ScriptedResource([redirect(302, "/b"), ["data: a\n\n"]])
        endpoint = endpoints.TCP6ServerEndpoint(reactor, 0, interface="::1")
        try:
            port: Any = await endpoint.listen(site_of(resource))
        except CannotListenError:
            pytest.skip("this machine has no IPv6")
        url = f"http://[::1]:{port.getHost().port}/"
        async with following(url) as followed:
            await followed.source.when_closed()
            assert (followed.texts, followed.source.url) == (["a"], url + "b")
        await port.stopListening()


class ReplyTests:
    @pytest_twisted.ensureDeferred
    @pytest.mark.parametrize(
        "kind",
        [
            "text/event-stream",
            "text/event-stream;charset=utf-8",
            "text/event-stream; charset=ISO-8859-1",
            "text/event-stream ; x=y; z",
            "Text/EVENT-Stream",
        ],
    )
    async def test_event_stream(self, kind: str) -> None:
        """
        A 200 with the media type opens a stream, in upper or lower case; parameters such as charset change
        nothing, since a stream is UTF-8.
        """
        script = await played(Reply(["data: ä\n\n"], headers={"Content-Type": kind}))
        assert (script.texts, script.end) == (["ä"], 204)

    @pytest_twisted.ensureDeferred
    @pytest.mark.parametrize(
        "kind", ["text/html", "text/plain; x=text/event-stream", "text/event-streams", "application/json", ""]
    )
    async def test_another_type(self, kind: str) -> None:
        """
        A response with another media type ends the source: it delivers no event and does not reconnect.
        """
        script = await played(Reply(["data: a\n\n"], headers={"Content-Type": kind}))
        assert (len(script.visits), script.texts, script.end) == (1, [], 200)
        assert "not text/event-stream" in str(script.errors[0])

    @pytest_twisted.ensureDeferred
    @pytest.mark.parametrize(
        ("fields", "body"),
        [
            (b"Transfer-Encoding: identity\r\n", b"data: a\n\n"),
            (b"Transfer-Encoding: identity\r\nContent-Length: 9\r\n", b"data: a\n\n"),
            (b"Transfer-Encoding: foo\r\nTransfer-Encoding: Chunked\r\n", b"9\r\ndata: a\n\n\r\n0\r\n\r\n"),
            (b"Content-Type: text/html\r\nContent-Type: text/event-stream\r\n", b"data: a\n\n"),
            (b"Content-Encoding: gzip\r\nContent-Encoding: foo\r\n", b"data: a\n\n"),
        ],
    )
    async def test_odd_fields(self, fields: bytes, body: bytes) -> None:
        """
        Unusual header fields with which Chromium opens a stream open one here.
        """

        def play(script: Script, request: bytes) -> None:
            script.say(HEAD + fields + b"\r\n" + body)
            script.end()

        async with answering(play) as url, following(url) as followed:
            await until(lambda: followed.texts)
            assert followed.texts[0] == "a"

    @pytest_twisted.ensureDeferred
    async def test_no_type(self) -> None:
        """
        A response without a media type ends the source: it delivers no event and does not reconnect.
        """

        def play(script: Script, request: bytes) -> None:
            requests.append(request)
            script.say(b"HTTP/1.1 200 OK\r\n\r\ndata: a\n\n")
            script.end()

        requests: list[bytes] = []
        async with answering(play) as url, following(url) as followed:
            error = await followed.source.when_closed()
            assert isinstance(error, StreamRefused)
            assert "the server sends nothing, and not text/event-stream" in str(error)
            assert (len(requests), followed.events) == (1, [])

    @pytest_twisted.ensureDeferred
    @pytest.mark.parametrize("status", [201, 204, 205, 206, 300, 304, 400, 401, 404, 410, 500, 503])
    async def test_status(self, status: int) -> None:
        """
        Any status other than 200 ends the source; 204 is the standard's way to stop a client from
        reconnecting.
        """
        async with (
            serving(Reply(["data: a\n\n"], status=status), ["data: b\n\n", HOLD]) as server,
            following(server.url) as followed,
        ):
            opened, closed = followed.source.when_open(), followed.source.when_closed()
            error = await closed
            assert isinstance(error, StreamRefused)
            assert (error.status, error.url) == (status, server.url)
            with pytest.raises(StreamRefused):
                await opened
            assert followed.source.ready_state is ReadyState.CLOSED
            assert (len(server.visits), followed.events, followed.errors) == (1, [], [error])

    @pytest_twisted.ensureDeferred
    async def test_status_of_a_reconnection(self) -> None:
        """
        A status other than 200 ends the source when it reconnects, too, and is raised by the program's loop.
        """
        async with serving(["data: a\n\n"], Reply(status=404)) as server:
            source = EventSource(server.url, retry=0.001)
            texts = []
            with pytest.raises(StreamRefused, match="the server answered 404"):
                async for event in source:
                    texts.append(event.data)
            assert (texts, source.ready_state) == (["a"], ReadyState.CLOSED)


class ReconnectionTests:
    @pytest_twisted.ensureDeferred
    @pytest.mark.parametrize(
        ("reply", "error"),
        [
            (Reply(["data: a\n\n"]), "StreamEnded"),
            (Reply(["data: a\n\n"], headers={"Content-Length": "9"}), "StreamEnded"),
            (Reply(["data: a\n\n", CUT]), "ConnectionFailed"),
            (Reply(["data: a\n\n"], headers={"Content-Length": "0"}), "StreamEnded"),
        ],
    )
    async def test_end_of_a_stream(self, reply: Reply, error: str) -> None:
        """
        The client reconnects after a stream has ended, properly or not.
        """
        script = await played(reply, ["data: b\n\n"])
        assert len(script.visits) == 3
        assert type(script.errors[0]).__name__ == error
        assert script.texts[-1] == "b"

    @pytest_twisted.ensureDeferred
    async def test_network_error(self) -> None:
        """
        The client reconnects if the connection is lost before the response.
        """

        def play(script: Script, request: bytes) -> None:
            requests.append(request)
            if len(requests) == 1:
                script.end()
            elif len(requests) == 2:
                script.say(HEAD)
                script.end()
            else:
                script.say(HEAD + b"\r\ndata: a\n\n")

        requests: list[bytes] = []
        async with answering(play) as url, following(url) as followed:
            await until(lambda: followed.texts == ["a"])
            assert [type(error).__name__ for error in followed.errors] == ["ConnectionFailed"] * 2

    @pytest.mark.slow
    @pytest_twisted.ensureDeferred
    async def test_refused_connection(self) -> None:
        """
        The client reconnects while the server refuses connections, until it accepts them again.
        """

        def steps() -> Iterator[Step]:
            yield "id: 1\ndata: a\n\n"
            while not stopped:
                yield 0.001
            yield CUT

        stopped: list[bool] = []
        resource = ScriptedResource([Reply(steps()), ["data: b\n\n", HOLD]])
        port = await listen(resource)
        number = port.getHost().port
        async with following(f"http://127.0.0.1:{number}/") as followed:
            await until(lambda: followed.texts == ["a"])
            await port.stopListening()
            stopped.append(True)
            await until(
                lambda: isinstance(
                    getattr(followed.source.last_error, "__cause__", None), ConnectionRefusedError
                )
            )
            assert followed.source.ready_state is ReadyState.CONNECTING
            endpoint = endpoints.TCP4ServerEndpoint(reactor, number, interface="127.0.0.1")
            port = await endpoint.listen(site_of(resource))
            await until(lambda: followed.texts == ["a", "b"])
            assert [visit.last_event_id for visit in resource.visits] == [None, "1"]
        await until(lambda: not resource.open)
        await port.stopListening()

    @pytest_twisted.ensureDeferred
    async def test_retry(self) -> None:
        """
        A retry field sets the reconnection time as soon as its line is read, even without an event.
        """
        async with (
            serving(["retry: 1\n", HOLD]) as server,
            following(server.url, retry=1000.0, max_retry=1000.0) as followed,
        ):
            await until(lambda: followed.source.retry == 0.001)
            assert followed.events == []
        script = await played(["retry: 1\ndata: a\n"], ["data: b\n\n"], retry=1000.0)
        assert (len(script.visits), script.texts) == (3, ["b"])

    @pytest_twisted.ensureDeferred
    @pytest.mark.parametrize("value", ["1x", "-1", "0.1", "", "٣"])
    async def test_retry_that_is_not_a_number(self, value: str) -> None:
        """
        A retry field counts only "if the field value consists of only ASCII digits".
        """
        async with (
            serving([f"retry: 5\nretry: {value}\ndata: a\n\n", HOLD]) as server,
            following(server.url) as followed,
        ):
            await until(lambda: followed.events)
            assert followed.source.retry == 0.005
            assert followed.events[0].retry == 0.005

    @pytest_twisted.ensureDeferred
    async def test_retry_of_an_earlier_stream(self) -> None:
        """
        The reconnection time that one stream sets stays for the following streams.
        """
        script = await played(["retry: 1\n\n"], [""], ["data: a\n\n"], retry=1000.0)
        assert (len(script.visits), script.texts) == (4, ["a"])


class ReadyStateTests:
    @pytest_twisted.ensureDeferred
    async def test_in_order(self) -> None:
        """
        The state is CONNECTING until the response, OPEN until the stream ends, CONNECTING again, and CLOSED
        at the end; it changes before the error is reported.
        """
        async with serving(["data: a\n\n"], ["data: b\n\n", CUT]) as server:
            async with following(server.url) as followed:
                source = followed.source
                assert source.ready_state is ReadyState.CONNECTING
                opened = source.when_open()
                opened.addCallback(lambda _: followed.states.append(source.ready_state))
                await source.when_closed()
        assert followed.states == [
            ReadyState.OPEN,  # when_open
            ReadyState.OPEN,  # a
            ReadyState.CONNECTING,  # the end
            ReadyState.OPEN,  # b
            ReadyState.CONNECTING,  # the cut
            ReadyState.CLOSED,  # the 204
        ]
        assert [ReadyState.CONNECTING, ReadyState.OPEN, ReadyState.CLOSED] == [0, 1, 2]

    @pytest_twisted.ensureDeferred
    async def test_open_before_the_first_byte(self) -> None:
        """
        The state is OPEN as soon as the response head arrives, before the first byte of the body.
        """
        async with serving([HOLD]) as server, following(server.url) as followed:
            await followed.source.when_open()
            assert followed.source.ready_state is ReadyState.OPEN
            assert followed.events == []


class Silent(Resource):
    """
    Takes requests and never responds.

    :ivar requested: the number of requests.
    :ivar aborted: the number of those that the client aborted.
    """

    isLeaf = True

    def __init__(self) -> None:
        Resource.__init__(self)
        self.requested = 0
        self.aborted = 0

    def render(self, request: Request) -> int:
        self.requested += 1
        request.notifyFinish().addErrback(self._count_abort)
        return NOT_DONE_YET

    def _count_abort(self, _: object) -> None:
        self.aborted += 1


class CloseTests:
    @pytest_twisted.ensureDeferred
    async def test_inside_a_callback(self) -> None:
        """
        A source that a callback closes drops the rest of what it received, and aborts the connection.
        """

        def received(event: ServerSentEvent) -> None:
            texts.append(event.data)
            followed.source.close()

        texts: list[str] = []
        async with (
            serving(["data: a\n\ndata: b\n\n", HOLD]) as server,
            following(server.url, event_received=received) as followed,
        ):
            assert await followed.source.when_closed() is None
            await until(lambda: not server.resource.open)
            assert (texts, followed.errors, len(server.visits)) == (["a"], [], 1)

    @pytest_twisted.ensureDeferred
    async def test_inside_the_loop(self) -> None:
        """
        A source that is closed inside the program's loop ends the loop, drops the rest of what it received,
        and aborts the connection.
        """
        async with serving(["data: a\n\ndata: b\n\n", HOLD]) as server:
            source = EventSource(server.url)
            texts = []
            async for event in source:
                texts.append(event.data)
                source.close()
            assert texts == ["a"]
            await until(lambda: not server.resource.open)

    @pytest_twisted.ensureDeferred
    async def test_while_connecting(self) -> None:
        """
        A source that is closed before the response aborts its request.
        """
        silent = Silent()
        port = await listen(silent)
        async with following(f"http://127.0.0.1:{port.getHost().port}/") as followed:
            await until(lambda: silent.requested)
            assert followed.source.ready_state is ReadyState.CONNECTING
            followed.source.close()
            await until(lambda: silent.aborted)
            assert (silent.requested, followed.errors) == (1, [])
            assert await followed.source.when_closed() is None
        await port.stopListening()

    @pytest_twisted.ensureDeferred
    async def test_before_the_connection_is_made(self) -> None:
        """
        A source that is closed in the reactor turn in which it was started sends no request.
        """
        requests: list[bytes] = []
        async with (
            answering(lambda script, request: requests.append(request)) as url,
            following(url) as followed,
        ):
            followed.source.close()
            assert await followed.source.when_closed() is None
            with pytest.raises(StreamEnded):
                await followed.source.when_open()
        assert requests == []

    @pytest_twisted.ensureDeferred
    @pytest.mark.parametrize("inside", [False, True])
    async def test_between_attempts(self, inside: bool) -> None:
        """
        A source that is closed between two attempts cancels the next one, even if the callback for the error
        closes it.
        """

        def failed(error: Exception) -> None:
            errors.append(error)
            if inside:
                followed.source.close()

        calls = set(reactor.getDelayedCalls())
        errors: list[Exception] = []
        async with (
            serving(["data: a\n\n"], ["data: b\n\n"]) as server,
            following(server.url, retry=1000.0, max_retry=1000.0, on_error=failed) as followed,
        ):
            await until(lambda: errors)
            followed.source.close()
            assert await followed.source.when_closed() is None
            assert (followed.texts, len(errors), len(server.visits)) == (["a"], 1, 1)
            waiting = [call.getTime() for call in set(reactor.getDelayedCalls()) - calls]
            assert all(time < reactor.seconds() + 500 for time in waiting)


class StreamTests:
    @pytest_twisted.ensureDeferred
    @pytest.mark.parametrize("headers", [{}, {"Content-Length": "1000"}])
    @pytest.mark.parametrize("line_end", ["\n", "\r", "\r\n"])
    async def test_end_of_an_event(self, headers: dict[str, str], line_end: str) -> None:
        """
        An event is dispatched when the end of its empty line arrives, and by the CR of a CR LF, without any
        further byte.
        """
        first, second = f"data: a{line_end}", f"data: b{line_end}"
        line_rest = line_end[1:]

        def steps() -> Iterator[Step]:
            yield first
            yield line_end[0]
            while not followed.events:
                yield 0.001
            yield line_rest + second
            yield line_end[0]
            while len(followed.events) < 2:
                yield 0.001
            yield line_rest
            yield HOLD

        async with serving(Reply(steps(), headers=headers)) as server, following(server.url) as followed:
            await until(lambda: followed.texts == ["a", "b"])
            assert followed.errors == []

    @pytest_twisted.ensureDeferred
    async def test_http_1_0(self) -> None:
        """
        A stream over HTTP/1.0 without framing is read as it arrives, and ends when the connection closes.
        """

        def play(script: Script, request: bytes) -> None:
            requests.append(request)
            script.say(b"HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\nid: 1\ndata: a\n\n")
            scripts.append(script)

        requests: list[bytes] = []
        scripts: list[Script] = []
        async with answering(play) as url, following(url) as followed:
            await until(lambda: followed.texts == ["a"])
            assert followed.source.ready_state is ReadyState.OPEN
            scripts[0].say(b"data: b\n\ndata: half")
            await until(lambda: followed.texts == ["a", "b"])
            scripts[0].end()
            await until(lambda: len(requests) == 2)
            assert isinstance(followed.errors[0], StreamEnded)
            assert b"\r\nlast-event-id: 1\r\n" in requests[1].lower()
            await until(lambda: followed.texts == ["a", "b", "a"])

    @pytest_twisted.ensureDeferred
    async def test_byte_order_mark(self) -> None:
        """
        "Streams must be decoded using the UTF-8 decode algorithm", which strips one byte order mark from the
        beginning of each stream, even in pieces, and no second one.
        """
        bom = b"\xef\xbb\xbf"
        script = await played(
            [bom + b"data: a\n\n"],
            [bom[:1], 0.001, bom[1:2], 0.001, bom[2:], 0.001, "data: b\n\n"],
            [bom + bom + b"data: c\n\ndata: d\n\n"],
        )
        assert script.texts == ["a", "b", "d"]

    @pytest_twisted.ensureDeferred
    async def test_byte_order_mark_after_the_beginning(self) -> None:
        """
        A byte order mark after the beginning of a stream is an ordinary character, and here makes an unknown
        field.
        """

        def steps() -> Iterator[Step]:
            yield "data: a\n\n"
            while not followed.events:
                yield 0.001
            yield b"\xef\xbb\xbfdata: b\n\ndata: c\n\n"
            yield HOLD

        async with serving(Reply(steps())) as server, following(server.url) as followed:
            await until(lambda: "c" in followed.texts)
            assert followed.texts == ["a", "c"]

    @pytest_twisted.ensureDeferred
    async def test_line_ends(self) -> None:
        """
        Lines end with CR LF, LF or CR, in any mixture.
        """
        script = await played(
            ["data: a\r", "\n", "data: b\r", "\ndata: c\r\n\r", "\n"],
            ["data: d\r\rdata: e\n\ndata: f\r\n\n", "data: g\n\r\n"],
        )
        assert script.texts == ["a\nb\nc", "d", "e", "f", "g"]

    @pytest_twisted.ensureDeferred
    async def test_line_end_in_pieces(self) -> None:
        """
        A CR LF that arrives in two reads is one line end.
        """

        def steps() -> Iterator[Step]:
            yield "data: a\nretry: 7\r"
            while followed.source.retry != 0.007:
                yield 0.001
            yield "\ndata: b\n\n"
            yield HOLD

        async with serving(Reply(steps())) as server, following(server.url) as followed:
            await until(lambda: followed.events)
            assert followed.texts == ["a\nb"]

    @pytest_twisted.ensureDeferred
    async def test_characters_in_pieces(self) -> None:
        """
        A character whose bytes arrive one by one is decoded.
        """
        pieces: Steps = []
        for byte in "data: ä€𝄞\n\n".encode():
            pieces += [bytes([byte]), 0.001]
        assert (await played(pieces)).texts == ["ä€𝄞"]

    @pytest_twisted.ensureDeferred
    @pytest.mark.parametrize("rest", ["data: b", "data: b\n", "data: b\r", "event: x\ndata: b\n", "id: 2"])
    @pytest.mark.parametrize("end", [[], [CUT]])
    async def test_unfinished_event(self, rest: str, end: Steps) -> None:
        """
        "If the file ends in the middle of an event, before the final empty line, the incomplete event is not
        dispatched", and the next stream does not complete it.
        """
        script = await played(["data: a\n\n" + rest, *end], ["\ndata: c\n\n"])
        assert script.texts == ["a", "c"]
        assert [event.event for event in script.events] == ["message", "message"]

    @pytest_twisted.ensureDeferred
    async def test_types(self) -> None:
        """
        The event field sets the type of one event; without a value it is message.
        """
        script = await played(["event: x\ndata: a\n\ndata: b\n\nevent\ndata: c\n\nevent: y\n\ndata: d\n\n"])
        assert [event.event for event in script.events] == ["x", "message", "message", "message"]

    @pytest_twisted.ensureDeferred
    async def test_listeners(self) -> None:
        """
        An event is passed only to the listeners for its type.
        """

        def hear(name: str, event: ServerSentEvent) -> None:
            heard.append((name, event.data))

        heard: list[tuple[str, str]] = []
        async with serving(["data: a\n\n", "event: x\ndata: b\n\n", "event: y\ndata: c\n\n", HOLD]) as server:
            source = EventSource(server.url)
            for name in ("message", "x", "y"):
                source.add_listener(name, partial(hear, name))
            source.start()
            await until(lambda: len(heard) == 3)
            source.close()
        assert heard == [("message", "a"), ("x", "b"), ("y", "c")]

    @pytest_twisted.ensureDeferred
    async def test_comments(self) -> None:
        """
        A line that begins with a colon is ignored, even inside an event, and so is an unknown field.
        """
        script = await played(
            [": hello\n\n:\n\ndata: a\n: between\n:data: x\nfoo: bar\nDATA: y\ndata: b\n\n", ":"]
        )
        assert script.texts == ["a\nb"]

    @pytest_twisted.ensureDeferred
    async def test_data(self) -> None:
        """
        Data lines are joined by LF; a data field without a value counts as an empty line, and a block without
        a data field is no event.
        """
        script = await played(["data:a\ndata:  b\n\n", "data\n\n", "data\ndata\n\n", "\n\n\n"])
        assert script.texts == ["a\n b", "", "\n"]
