"""
Tests that each option of the service has an effect, in a running service on a fake network. Each option needs
a case here.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed

from tests.fakes import Client, Wire
from tests.mercure.signers import ec_key, private_pem
from tests.mercure.world import DISCONNECT, DISCONNECTER, PATH, SECRET, URL, Reader, old_token, token
from txsse.mercure.auth import jwks as remote
from txsse.service.build import make_hub
from txsse.service.config import BadConfig, Config
from txsse.web import listening

ANY = token(publish=["*"], subscribe=["*"])

MIB = 1024 * 1024


class Port:
    """
    A fake listening port, with its endpoint.
    """

    def __init__(self, description: str, sites: dict[str, Any]) -> None:
        self._description = description
        self._sites = sites

    def listen(self, site: Any) -> Deferred[Port]:
        self._sites[self._description] = site
        site.doStart()
        return succeed(self)

    def getHost(self) -> IPv4Address:  # noqa: N802
        return IPv4Address("TCP", "127.0.0.1", 80)

    def stopListening(self) -> Deferred[None]:  # noqa: N802
        self._sites.pop(self._description).doStop()
        return succeed(None)


class Running:
    """
    A running service.

    :ivar sites: what listens where.
    """

    def __init__(self, wire: Wire, monkeypatch: pytest.MonkeyPatch, **given: Any) -> None:
        self.wire = wire
        self.sites: dict[str, Any] = {}
        monkeypatch.setattr(
            listening, "serverFromString", lambda reactor, description: Port(description, self.sites)
        )
        usual = {"listen": ("here",), "url": URL, "key": SECRET, "keepalive": None, "max_lifetime": None}
        self._service = make_hub(Config(**{**usual, **given}), wire.reactor)
        self._service.startService()
        self._clients: list[Client] = []

    def connect(self, address: str = "127.0.0.1") -> Client:
        client = Client(self.wire, self.sites["here"])
        client.transport.client = (address, 50000)
        self._clients.append(client)
        return client

    def ask(
        self, path: str, method: str = "GET", body: bytes = b"", *, address: str = "127.0.0.1", **headers: str
    ) -> Client:
        """
        Send a request on a new connection; _ in the names of header fields stands for -.
        """
        given = {"Host": "hub.example", "Content-Length": str(len(body)), **headers}
        lines = [f"{name.replace('_', '-')}: {value}" for name, value in given.items()]
        client = self.connect(address)
        client.say("\r\n".join([f"{method} {path} HTTP/1.1", *lines, "", ""]).encode() + body)
        return client

    def subscribe(self, *topics: str, token: str | None = ANY, more: str = "", **headers: str) -> Client:
        given: dict[str, Any] = {} if token is None else {"Authorization": f"Bearer {token}"}
        return self.ask(f"{PATH}?{urlencode([('match', each) for each in topics])}{more}", **given, **headers)  # type: ignore[arg-type]

    def publish(
        self, *topics: str, data: str = "", token: str | None = ANY, more: str = "", **headers: str
    ) -> Client:
        given: dict[str, Any] = {} if token is None else {"Authorization": f"Bearer {token}"}
        given["Content-Type"] = "application/x-www-form-urlencoded"
        body = f"{urlencode([*(('topic', each) for each in topics), ('data', data)])}{more}".encode()
        return self.ask(PATH, "POST", body, **given, **headers)

    def retain(self, *keys: str, data: str = "") -> list[int]:
        """
        Retain an update under each key, and return the statuses of the responses.
        """
        return [self.publish("a", data=data, more=f"&retain={key}").status for key in keys]

    def disconnect(self, form: str) -> Client:
        given = {
            "Authorization": f"Bearer {DISCONNECTER}",
            "Content-Type": "application/x-www-form-urlencoded",
        }
        return self.ask(DISCONNECT, "POST", form.encode(), **given)

    def old_texts(self) -> list[str]:
        """
        Return the texts of the updates in the journal.
        """
        return Reader(self.subscribe("a", more="&last_event_id=earliest")).texts

    def wait(self, seconds: float) -> None:
        self.wire.reactor.advance(seconds)
        for client in self._clients:
            client.pump()

    def stop(self) -> Deferred[Any]:
        return self._service.stopService()

    def end(self) -> None:
        for client in self._clients:
            if client.transport.connected:
                client.disconnect(clean=False)
        self.stop()
        self.wire.reactor.run_soon()


class Start:
    """
    Starts services with the least configuration that is valid, and the options of the test.
    """

    def __init__(self, wire: Wire, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.monkeypatch = monkeypatch
        self.folder = folder
        self._wire = wire
        self.running: list[Running] = []

    def __call__(self, **given: Any) -> Running:
        self.running.append(Running(self._wire, self.monkeypatch, **given))
        return self.running[-1]

    def file(self, content: bytes) -> tuple[str]:
        path = self.folder / "key"
        path.write_bytes(content)
        return (str(path),)


@pytest.fixture
def start(plain: Wire, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Start]:
    made = Start(plain, monkeypatch, tmp_path)
    yield made
    for each in made.running:
        each.end()


def allowed(service: Running) -> tuple[bool, bool]:
    """
    Return whether the default token may publish, and may subscribe.
    """
    statuses = service.publish("a").status, service.subscribe("a").status
    assert set(statuses) <= {200, 401}
    return statuses[0] == 200, statuses[1] == 200


def is_cut_off(service: Running) -> bool:
    """
    Return whether the connection of a client that has not read 200 kB is closed.
    """
    client = service.subscribe("a")
    client.stop_reading()
    for _ in range(20):
        assert service.publish("a", data="x" * 10_000).status == 200
    return not client.connected


class Cases:
    """
    A case for each option, named as its field of Config.
    """

    def listen(self, start: Start) -> None:
        assert set(start(listen=("here", "there")).sites) == {"here", "there"}

    def url(self, start: Start) -> None:
        service = start(url="https://hub.example/elsewhere", audience=(URL,))
        assert service.ask("/elsewhere?match=a", Authorization=f"Bearer {ANY}").status == 200
        assert start().ask("/elsewhere?match=a").status == 404

    def journal(self, start: Start) -> None:
        with pytest.raises(BadConfig, match="'paper:' is not a journal"):
            start(journal="paper:")

    def journal_count(self, start: Start) -> None:
        service = start(journal_count=2)
        for text in "123":
            service.publish("a", data=text)
        assert service.old_texts() == ["2", "3"]

    def journal_bytes(self, start: Start) -> None:
        service = start(journal_bytes=3000)
        for text in "123":
            service.publish("a", data=text * 1000)
        assert service.old_texts() == ["3" * 1000]

    def journal_age(self, start: Start) -> None:
        service = start(journal_age=10.0)
        service.publish("a", data="1")
        service.wait(11)
        service.publish("a", data="2")
        assert service.old_texts() == ["2"]

    def retained_count(self, start: Start) -> None:
        assert start(retained_count=2).retain(*"123") == [200, 200, 507]
        assert start().retain(*"123") == [200, 200, 200]

    def retained_bytes(self, start: Start) -> None:
        assert start(retained_bytes=5000).retain(*"123", data="x" * 1000) == [200, 200, 507]

    def retained_per_token(self, start: Start) -> None:
        service = start(retained_per_token=2)
        assert service.retain(*"1231") == [200, 200, 507, 200]
        assert b"may have 2 retained updates" in service.publish("a", more="&retain=4").body

    def key(self, start: Start) -> None:
        assert allowed(start(key=SECRET)) == (True, True)
        assert allowed(start(key="x" * 32)) == (False, False)

    def publish_key(self, start: Start) -> None:
        assert allowed(start(key=None, publish_key=SECRET)) == (True, False)

    def subscribe_key(self, start: Start) -> None:
        assert allowed(start(key=None, publish_key="x" * 32, subscribe_key=SECRET)) == (False, True)

    def key_file(self, start: Start) -> None:
        assert allowed(start(key=None, key_file=start.file(SECRET.encode()))) == (True, True)

    def publish_key_file(self, start: Start) -> None:
        assert allowed(start(key=None, publish_key_file=start.file(SECRET.encode()))) == (True, False)

    def subscribe_key_file(self, start: Start) -> None:
        given = {"publish_key": "x" * 32, "subscribe_key_file": start.file(SECRET.encode())}
        assert allowed(start(key=None, **given)) == (False, True)

    def key_issuer(self, start: Start) -> None:
        assert start().subscribe("a", token=token(iss="anybody")).status == 200
        for compatibility in (False, True):
            for keys in ({"key": SECRET}, {"key": None, "key_file": start.file(SECRET.encode())}):
                service = start(key_issuer="https://app.example", compatibility=compatibility, **keys)
                for iss, status in (("https://app.example", 200), ("https://as.example", 401), (None, 401)):
                    given = token(publish=["*"], subscribe=["*"], iss=iss)
                    refused = service.subscribe("a", token=given)
                    assert (refused.status, service.publish("a", token=given).status) == (status, status)
                    assert status == 200 or b"its issuer (iss) is not" in refused.body
                described = service.ask("/.well-known/oauth-protected-resource" + PATH)
                assert "authorization_servers" not in json.loads(described.body)

    def issuer(self, start: Start) -> None:
        service = start(issuer=("https://as.example",), jwks=("https://as.example/keys",))
        described = service.ask("/.well-known/oauth-protected-resource" + PATH)
        assert json.loads(described.body)["authorization_servers"] == ["https://as.example"]

    def jwks(self, start: Start) -> None:
        asked: list[bytes] = []

        class Agent:
            def __init__(self, *arguments: Any, **options: Any) -> None:
                pass

            def request(self, method: bytes, uri: bytes, headers: Any) -> Deferred[Any]:
                asked.append(uri)
                return Deferred()

        start.monkeypatch.setattr(remote, "Agent", Agent)
        service = start(issuer=("https://as.example",), jwks=("https://as.example/keys",))
        service.subscribe("a", token=token(iss="https://as.example"))
        assert asked == [b"https://as.example/keys"]
        service.wait(11)

    def audience(self, start: Start) -> None:
        service = start(audience=("one", "two"))
        for audience, status in (("one", 200), ("two", 200), (URL, 401)):
            assert service.subscribe("a", token=token(aud=audience)).status == status

    def algorithm(self, start: Start) -> None:
        keys = start.file(private_pem(ec_key()))
        assert allowed(start(key_file=keys)) == (True, True)
        assert allowed(start(key_file=keys, algorithm=("HS256",))) == (True, True)
        assert allowed(start(key_file=keys, algorithm=("ES256",))) == (False, False)

    def anonymous(self, start: Start) -> None:
        assert start(anonymous=True).subscribe("a", token=None).status == 200
        assert start().subscribe("a", token=None).status == 401

    def origin(self, start: Start) -> None:
        for given, expected in ((("https://app.example",), "https://app.example"), ((), None)):
            answered = start(origin=given).subscribe("a", Origin="https://app.example")
            assert answered.headers.get("access-control-allow-origin") == expected

    def publish_origin(self, start: Start) -> None:
        cookie = f"__Secure-mercure_access_token={ANY}"
        for given, status in ((("https://app.example",), 200), ((), 403)):
            service = start(publish_origin=given)
            answered = service.publish("a", token=None, Cookie=cookie, Origin="https://app.example")
            assert answered.status == status

    def cookie(self, start: Start) -> None:
        service = start(cookie="mine")
        assert service.subscribe("a", token=None, Cookie=f"mine={ANY}").status == 200

    def key_claim(self, start: Start) -> None:
        service = start(key_claim="session")
        assert service.disconnect("key=x").status == 200
        for claim, status in (("session", 401), ("sid", 200)):
            assert service.publish("a", token=token(publish=["*"], **{claim: "x"})).status == status

    def revocation_lifetime(self, start: Start) -> None:
        service = start(revocation_lifetime=60.0)
        assert b'"1970-01-01T00:01:00Z"' in service.disconnect("sub=ann").body

    def subscriptions(self, start: Start) -> None:
        for given, status in ((True, 200), (False, 404)):
            service = start(subscriptions=given)
            answered = service.ask(f"{PATH}/subscriptions", Authorization=f"Bearer {ANY}")
            assert answered.status == status

    def compatibility(self, start: Start) -> None:
        old = old_token(subscribe=["a"])
        assert start(compatibility=True).subscribe("a", token=old).status == 200
        assert start().subscribe("a", token=old).status == 401

    def debugger(self, start: Start) -> None:
        assert start(debugger=True).ask("/").status == 200
        assert start().ask("/").status == 404

    def max_body(self, start: Start) -> None:
        # A larger and a smaller limit than the default, to test all layers that apply it.
        service = start(max_body=5 * MIB)
        assert service.publish("a", data="x" * 4 * MIB).status == 200
        assert service.publish("a", data="x" * 5 * MIB).status == 413
        assert start(max_body=100).publish("a", data="x" * 100).status == 413

    def max_bodies(self, start: Start) -> None:
        service = start(max_bodies=1000)
        assert service.publish("a", data="x" * 900).status == 200
        assert service.publish("a", data="x" * 1000).status == 503

    def max_connections(self, start: Start) -> None:
        service = start(max_connections=1)
        site = service.sites["here"]
        service.connect()
        assert site.buildProtocol(None) is None
        assert start(max_connections=None).sites["here"].buildProtocol(None) is not None

    def max_topics(self, start: Start) -> None:
        service = start(max_topics=2)
        assert service.publish("a", "b").status == 200
        assert service.publish("a", "b", "c").status == 413

    def max_matchers(self, start: Start) -> None:
        service = start(max_matchers=150)
        assert service.subscribe(*map(str, range(150))).status == 200
        assert service.subscribe(*map(str, range(151))).status == 400

    def max_pattern_weight(self, start: Start) -> None:
        service = start(max_pattern_weight=1000)
        patterns = ["&match_urlpattern=/a/:x"] * 2 + ["&match_urlpattern=/b/:x"]
        assert [service.subscribe("a", more=each).status for each in patterns] == [200, 200, 503]

    def max_streams(self, start: Start) -> None:
        service = start(max_streams=1)
        assert [service.subscribe("a").status for _ in range(2)] == [200, 503]

    def max_streams_per_address(self, start: Start) -> None:
        service = start(max_streams_per_address=1)
        assert [service.subscribe("a").status for _ in range(2)] == [200, 429]

    def max_buffer(self, start: Start) -> None:
        assert is_cut_off(start(slow_policy="close", max_buffer=1000))
        assert not is_cut_off(start(slow_policy="close"))

    def max_total_buffer(self, start: Start) -> None:
        assert is_cut_off(start(slow_policy="close", max_total_buffer=1000))

    def slow_policy(self, start: Start) -> None:
        assert is_cut_off(start(slow_policy="close", max_buffer=1000))
        assert not is_cut_off(start(slow_policy="replay", max_buffer=1000))

    def max_retained_bytes_per_stream(self, start: Start) -> None:
        service = start(max_retained_bytes_per_stream=1000, anonymous=True)
        for topic, keys in (("a", "1"), ("b", "12")):
            for key in keys:
                service.publish(topic, data="x" * 800, more=f"&retain={key}")
        assert [service.subscribe(topic, token=None).status for topic in "ab*"] == [200, 400, 400]
        refused = service.subscribe("*", token=None)
        assert refused.body.startswith(b"the retained updates of these topics have more than 1000 bytes")
        unlimited = start(max_retained_bytes_per_stream=None)
        assert set(unlimited.retain(*map(str, range(17)), data="x" * 1_000_000)) == {200}
        assert unlimited.subscribe("a").status == 200
        usual = start()
        assert set(usual.retain(*map(str, range(17)), data="x" * 1_000_000)) == {200}
        assert usual.subscribe("a").status == 400

    def keepalive(self, start: Start) -> None:
        client = start(keepalive=5.0).subscribe("a")
        earlier = client.body
        start.running[-1].wait(5)
        assert client.body[len(earlier) :].startswith(b":")

    def max_lifetime(self, start: Start) -> None:
        service = start(max_lifetime=100.0)
        client = service.subscribe("a")
        service.wait(79)
        assert not client.ended
        service.wait(21)
        assert client.ended

    def peer_timeout(self, start: Start) -> None:
        client = start(peer_timeout=5.0).connect()
        options: dict[int, object] = {}
        client.socket.setsockopt = lambda _, option, value: options.update({option: value})  # type: ignore[assignment, method-assign]
        client.say(f"GET {PATH}?match=a HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ANY}\r\n\r\n".encode())
        assert client.status == 200
        option = getattr(socket, "TCP_USER_TIMEOUT", None)
        assert option is None or options[option] == 5000

    def request_timeout(self, start: Start) -> None:
        service = start(request_timeout=5.0)
        client = service.connect()
        client.say(b"GET / HTTP/1.1\r\n")
        service.wait(4.9)
        assert client.connected
        service.wait(0.2)
        assert not client.connected

    def shutdown_timeout(self, start: Start) -> None:
        service = start(shutdown_timeout=3.0)
        client = service.subscribe("a")
        client.stop_reading()
        service.publish("a", data="x" * 100_000)
        service.stop()
        service.wait(2.9)
        assert client.connected
        service.wait(0.2)
        assert not client.connected

    def admin(self, start: Start) -> None:
        service = start(admin=("beside",))
        client = Client(service.wire, service.sites["beside"]).request("/health/ready")
        assert client.status == 200
        client.disconnect(clean=False)

    def access_log(self, start: Start) -> None:
        log = start.folder / "access.log"
        start(access_log=str(log)).ask("/asked")
        assert "GET /asked HTTP/1.1" in log.read_text()


class ReachingTests:
    @pytest.mark.parametrize("field", [field.name for field in fields(Config)])
    def test_option(self, start: Start, field: str) -> None:
        """
        Each option of the service has its effect; an option without a case fails.
        """
        case: Callable[[Start], None] = getattr(Cases(), field)
        case(start)

    def test_no_case_without_an_option(self) -> None:
        """
        No case is left over from a removed option.
        """
        assert {name for name in vars(Cases) if not name.startswith("_")} == {
            field.name for field in fields(Config)
        }


class LimitTests:
    def test_streams_of_one_address(self, start: Start) -> None:
        """
        One client address may open a limited number of streams, and other clients more, up to the total
        limit.
        """
        service = start(max_streams_per_address=2, max_streams=3)
        first, second = (service.ask(f"{PATH}?match=a", Authorization=f"Bearer {ANY}") for _ in range(2))
        refused = service.subscribe("a")
        assert (first.status, second.status, refused.status) == (200, 200, 429)
        assert refused.headers["retry-after"].isdigit()
        others = [service.subscribe("a", address="192.0.2.1") for _ in range(2)]
        assert [other.status for other in others] == [200, 503]
        first.disconnect(clean=False)
        assert service.subscribe("a").status == 200
