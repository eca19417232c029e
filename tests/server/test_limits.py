"""
Tests of the limits of channels.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, cast

import pytest
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress
from twisted.web.http import Request

from tests.fakes import Client, Wire
from txsse import Limits, SSEChannel, SSEResource
from txsse.server.limits import address_key
from txsse.server.negotiation import Accepted, Answer


class Asking:
    """
    A request from an address.
    """

    def __init__(self, host: str | None = "192.0.2.1", user: Hashable = None) -> None:
        self.user = user
        self._address: IAddress = UNIXAddress(b"/run/proxy")
        if host is not None:
            kind = IPv6Address if ":" in host else IPv4Address
            self._address = kind("TCP", host, 50000)

    def getClientAddress(self) -> IAddress:
        return self._address


def user_of(request: Request) -> Hashable:
    return cast(Asking, request).user


def refused(limits: Limits, asking: Asking, cors: list[tuple[bytes, bytes]] | None = None) -> Answer | None:
    return limits.refusal(cast(Request, asking), Accepted("", [], cors or []))


def enter(limits: Limits, asking: Asking) -> Callable[[], None]:
    assert refused(limits, asking) is None
    leave = limits.enter(cast(Request, asking))
    assert leave is not None
    return leave


class OptionsTests:
    @pytest.mark.parametrize("name", ["channels", "per_address", "per_key"])
    def test_limit_that_allows_nothing(self, name: str) -> None:
        """
        A limit of 0 is refused with the name of the option.
        """
        options: dict[str, Any] = {name: 0}
        if name == "per_key":
            options["key"] = user_of
        with pytest.raises(ValueError, match=f"{name} must be at least 1, not 0"):
            Limits(**options)

    @pytest.mark.parametrize("options", [{"per_key": 1}, {"key": user_of}])
    def test_half_of_a_pair(self, options: dict[str, Any]) -> None:
        """
        A key without a limit, or a limit without a key, is refused.
        """
        with pytest.raises(ValueError, match="per_key and key go together"):
            Limits(**options)

    def test_no_limits(self) -> None:
        """
        Without limits, any number of channels is accepted, and nothing is counted.
        """
        limits = Limits()
        for _ in range(3):
            assert refused(limits, Asking()) is None
            assert limits.enter(cast(Request, Asking())) is None


class CountingTests:
    def test_channels(self) -> None:
        """
        A request beyond the total limit gets 503, until a channel has ended.
        """
        limits = Limits(channels=2)
        leave = enter(limits, Asking())
        enter(limits, Asking("192.0.2.2"))
        answer = refused(limits, Asking("192.0.2.3"))
        assert answer is not None
        assert answer.status == 503
        assert answer.reason == "the server has reached its limit of streams"
        assert (b"Retry-After", b"5") in answer.headers
        leave()
        enter(limits, Asking("192.0.2.3"))
        assert refused(limits, Asking()) is not None

    def test_per_address(self) -> None:
        """
        A request beyond the limit of its address gets 429; other addresses are not affected.
        """
        limits = Limits(per_address=2)
        leave = enter(limits, Asking())
        enter(limits, Asking())
        answer = refused(limits, Asking())
        assert answer is not None
        assert answer.status == 429
        assert answer.reason == "too many streams for one address: 2 is the limit"
        assert answer.body == b"too many streams for one address: 2 is the limit\n"
        assert (b"Retry-After", b"5") in answer.headers
        enter(limits, Asking("192.0.2.2"))
        leave()
        enter(limits, Asking())
        assert refused(limits, Asking()) is not None

    def test_one_household(self) -> None:
        """
        An IPv6 /64 counts as one address, and the next /64 as another.
        """
        limits = Limits(per_address=1)
        enter(limits, Asking("2001:db8:0:1::1"))
        assert refused(limits, Asking("2001:db8:0:1:ffff::2")) is not None
        assert refused(limits, Asking("2001:db8:0:2::1")) is None

    def test_without_an_address(self) -> None:
        """
        A request through a UNIX socket comes from a proxy, and is not counted by address.
        """
        limits = Limits(per_address=1)
        enter(limits, Asking(None))
        assert refused(limits, Asking(None)) is None

    def test_per_key(self) -> None:
        """
        A request beyond the limit of its key gets 429; a client without a key is not counted.
        """
        limits = Limits(per_key=1, key=user_of)
        leave = enter(limits, Asking(user="ann"))
        answer = refused(limits, Asking("192.0.2.2", "ann"))
        assert answer is not None
        assert answer.status == 429
        assert answer.reason == "too many streams for one client: 1 is the limit"
        enter(limits, Asking(user="bob"))
        enter(limits, Asking())
        enter(limits, Asking())
        leave()
        enter(limits, Asking(user="ann"))

    def test_key_like_an_address(self) -> None:
        """
        Keys and addresses are counted separately, even if they are equal.
        """
        limits = Limits(per_address=1, per_key=1, key=user_of)
        enter(limits, Asking("192.0.2.1", "192.0.2.2"))
        assert refused(limits, Asking("192.0.2.2", "192.0.2.1")) is None

    def test_all_limits_together(self) -> None:
        """
        All limits apply at the same time, the total limit first.
        """
        limits = Limits(channels=3, per_address=2, per_key=1, key=user_of)
        enter(limits, Asking("192.0.2.1", "ann"))
        answer = refused(limits, Asking("192.0.2.2", "ann"))
        assert answer is not None and "one client" in answer.reason
        enter(limits, Asking("192.0.2.1", "bob"))
        answer = refused(limits, Asking("192.0.2.1", "cid"))
        assert answer is not None and "one address" in answer.reason
        enter(limits, Asking("192.0.2.2", "dan"))
        answer = refused(limits, Asking("192.0.2.1", "ann"))
        assert answer is not None and answer.status == 503

    def test_nothing_is_left(self) -> None:
        """
        The counts of a disconnected client are removed, so that addresses do not fill the memory.
        """
        limits = Limits(per_address=2, per_key=2, key=user_of)
        leaving = [enter(limits, Asking(f"192.0.2.{number}", number)) for number in range(10)]
        leaving.append(enter(limits, Asking("192.0.2.1", 1)))
        assert len(limits._counts) == 20
        for leave in leaving:
            leave()
        assert len(limits._counts) == 0
        assert limits._open == 0

    def test_refusal_counts_nothing(self) -> None:
        """
        Checking a request against the limits does not count it.
        """
        limits = Limits(per_address=1)
        for _ in range(3):
            assert refused(limits, Asking()) is None
        assert len(limits._counts) == 0

    @pytest.mark.parametrize(
        ("seconds", "field"), [(5.0, b"5"), (0.1, b"1"), (0, b"1"), (1.6, b"2"), (120, b"120")]
    )
    def test_retry_after(self, seconds: float, field: bytes) -> None:
        """
        Retry-After is in whole seconds, and never 0.
        """
        limits = Limits(channels=1, retry_after=seconds)
        enter(limits, Asking())
        answer = refused(limits, Asking())
        assert answer is not None
        assert (b"Retry-After", field) in answer.headers

    def test_cors(self) -> None:
        """
        A page of another origin may read the refusal.
        """
        limits = Limits(channels=1)
        enter(limits, Asking())
        answer = refused(limits, Asking(), [(b"Access-Control-Allow-Origin", b"*")])
        assert answer is not None
        assert (b"Access-Control-Allow-Origin", b"*") in answer.headers


class AddressKeyTests:
    @pytest.mark.parametrize(
        ("host", "key"),
        [
            ("192.0.2.1", "192.0.2.1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
            ("2001:db8:1:2::", "2001:db8:1:2::/64"),
            ("fe80::1%eth0", "fe80::/64"),
            ("::1", "::/64"),
            ("a host", "a host"),
            ("", ""),
        ],
    )
    def test_key(self, host: str, key: str) -> None:
        """
        An IPv4 address counts as itself in either notation, an IPv6 address as its /64, other hosts as they
        are.
        """
        assert address_key(host) == key


class UpgraderTests:
    def test_streams(self, wire: Wire) -> None:
        """
        A stream beyond the limit is refused with a complete response, and a stream that ends makes room for
        another.
        """
        channels: list[SSEChannel] = []
        resource = SSEResource(channels.append, upgrader=wire.upgrader(limits=Limits(per_address=2)))
        clients = [wire.connect(resource).request() for _ in range(2)]
        late = wire.connect(resource).request()
        assert late.status == 429
        assert late.headers["retry-after"] == "5"
        assert late.body == b"too many streams for one address: 2 is the limit\n"
        assert len(channels) == 2
        clients[0].disconnect(clean=False)
        again: Client = wire.connect(resource).request()
        assert again.status == 200
        channels[1].close()
        clients[1].pump()
        assert wire.connect(resource).request().status == 200
        assert wire.connect(resource).request().status == 429
        for channel in channels:
            channel.close()
        wire.reactor.run_soon()

    def test_responses_other_than_streams(self, plain: Wire) -> None:
        """
        HEAD, OPTIONS and 405 responses are sent even if the limit of streams is reached.
        """
        channels: list[SSEChannel] = []
        resource = SSEResource(channels.append, upgrader=plain.upgrader(limits=Limits(channels=1)))
        plain.connect(resource).request()
        assert plain.connect(resource).request().status == 503
        assert plain.connect(resource).request(method="HEAD").status == 200
        assert plain.connect(resource).request(method="OPTIONS").status == 204
        assert plain.connect(resource).request(method="POST").status == 405
        channels[0].close()


class KeyTests:
    def test_key_is_read_once(self, wire: Wire) -> None:
        """
        The key of a request is read once, and its stream counts under that key.
        """
        asked: list[int] = []

        def key(request: Request) -> int:
            asked.append(len(asked))
            return asked[-1]

        channels: list[SSEChannel] = []
        limits = Limits(per_key=1, key=key)
        resource = SSEResource(channels.append, upgrader=wire.upgrader(limits=limits))
        for _ in range(3):
            wire.connect(resource).request()
        assert asked == [0, 1, 2]
        assert limits._counts == {("key", number): 1 for number in asked}
        for channel in channels:
            channel.close()
        wire.reactor.run_soon()
        assert limits._counts == {}
