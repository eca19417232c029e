"""
Tests of the parser for URLs of Redis servers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from txsse.journal.redis.url import Address, parse_url

ROOT = Path(__file__).parent.parent.parent.parent


class URLTests:
    @pytest.mark.parametrize(
        ("url", "addresses", "rest"),
        [
            ("redis://", [Address()], {}),
            ("redis://a", [Address("a")], {}),
            ("redis://a:1/2", [Address("a", 1)], {"database": 2}),
            ("redis://a?db=3", [Address("a")], {"database": 3}),
            ("redis://[::1]:1", [Address("::1", 1)], {}),
            ("redis://:p%40ss@a", [Address("a")], {"password": "p@ss", "username": None}),
            ("redis://u:p@a", [Address("a")], {"password": "p", "username": "u", "name": "redis://u@a"}),
            ("rediss://a", [Address("a")], {"tls": True}),
            ("unix:///run/r.sock?db=1", [Address(path="/run/r.sock")], {"database": 1}),
            ("unix://u:p@/run/r.sock", [Address(path="/run/r.sock")], {"username": "u", "password": "p"}),
            (
                "redis+sentinel://a,b:1/main/2",
                [Address("a", 26379), Address("b", 1)],
                {"service": "main", "database": 2, "tls": False},
            ),
            ("rediss+sentinel://a/main", [Address("a", 26379)], {"service": "main", "tls": True}),
        ],
    )
    def test_valid(self, url: str, addresses: list[Address], rest: dict[str, Any]) -> None:
        """
        A valid Redis URL is parsed into addresses, credentials, database, service and TLS.
        """
        server = parse_url(url)
        assert list(server.addresses) == addresses
        assert {name: getattr(server, name) for name in rest} == rest

    @pytest.mark.parametrize(
        ("url", "said"),
        [
            ("localhost:6379", "unsupported scheme 'localhost'"),
            ("//a", "unsupported scheme ''"),
            ("redis://a,b", "for sentinels, use"),
            ("redis://a/b", "a single number"),
            ("redis://a/1?db=2", "a single number"),
            ("redis://a/1/2", "a single number"),
            ("redis://a:port", "a port is not a number"),
            ("redis://x:secret/b@c/0", "a port is not a number"),
            ("redis://a:99999", "a port is not a number"),
            ("redis://a?timeout=5", "unknown option timeout"),
            ("redis://user@:6379", "a host is missing"),
            ("unix://", "the path of the socket is missing"),
            ("redis+sentinel://a", "the name of the service is missing"),
            ("redis+sentinel://a,/main", "a host is missing"),
        ],
    )
    def test_invalid(self, url: str, said: str) -> None:
        """
        The error for an invalid Redis URL names the fault and shows examples, and contains no password.
        """
        with pytest.raises(ValueError, match=said) as raised:
            parse_url(url.replace("://", "://:secret@") if "a" in url and "://a" in url else url)
        assert "redis+sentinel://host1,host2:26379/mymaster/0" in str(raised.value)
        assert "secret" not in str(raised.value)
