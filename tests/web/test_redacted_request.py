"""
Tests of requests in logs, which must not contain tokens.
"""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes import Client, Http2Client, Wire
from tests.mercure.world import PATH, SECRET, URL, old_token
from txsse.mercure.forms import read_query
from txsse.service.build import make_hub
from txsse.service.config import Config
from txsse.web.redacted_request import without_token

TOKEN = old_token(subscribe=["*"])


# The parts of queries, without invalid UTF-8, which is refused.
PIECES = st.lists(st.sampled_from([*"aeyJ&=+;#?/.-_", "%41", "%26", "%3D"]), max_size=12).map("".join)


def spell(name: str, choices: list[int]) -> str:
    """
    Write each letter as it is, or percent-encoded.
    """
    ways = ["{0}", "%{1:02x}", "%{1:02X}"]
    return "".join(ways[way].format(each, ord(each)) for each, way in zip(name, choices, strict=True))


def tokens_in(uri: bytes) -> list[str]:
    request: Any = SimpleNamespace(uri=uri)
    return [value for name, value in read_query(request) if name == "authorization"]


class TextTests:
    @given(
        st.lists(st.integers(0, 2), min_size=13, max_size=13),
        PIECES,
        PIECES,
        PIECES,
    )
    @settings(derandomize=True, deadline=None)
    def test_hub_finds_no_token(self, choices: list[int], before: str, after: str, token: str) -> None:
        """
        In a redacted query a hub finds no token, whatever the notation of the name and the other fields.
        """
        name = spell("authorization", choices)
        uri = f"/hub?{before}&{name}={token}&{after}".encode()
        assert tokens_in(uri)
        assert set(tokens_in(without_token(uri))) <= {"***", ""}

    @pytest.mark.parametrize(
        ("text", "shown"),
        [
            (b"/hub?match=a&authorization=eyJ.a.b&x=1", b"/hub?match=a&authorization=***&x=1"),
            (b"https://a/?n=%2Fhub%3Fauthorization%3DeyJ", b"https://a/?n=%2Fhub%3Fauthorization%3D***"),
            (b"/hub?Authorization=eyJ", b"/hub?Authorization=***"),
            (b"/hub?match=authorization&match=a=b", b"/hub?match=authorization&match=a=b"),
            (b"/hub", b"/hub"),
            (b"-", b"-"),
        ],
    )
    def test_other_text_stays(self, text: bytes, shown: bytes) -> None:
        """
        Text that is not a token stays unchanged.
        """
        assert without_token(text) == shown


class LogTests:
    @pytest.fixture
    def site(self, plain: Wire) -> Any:
        config = Config(url=URL, key=SECRET, access_log="-", compatibility=True)
        made: Any = make_hub(config, plain.reactor)
        site = made._serving._site
        site.timeOut = None
        site._logFile = io.StringIO()
        return site

    @pytest.mark.parametrize("kind", [Client, Http2Client])
    @pytest.mark.parametrize("path", [f"{PATH}?topic=a&%61uthorization={TOKEN}", f"/x?authorization={TOKEN}"])
    def test_line(self, plain: Wire, site: Any, kind: type[Client], path: str) -> None:
        """
        An access-log line contains no token, neither in the URI nor in Referer, also for streams.
        """
        headers = {
            "Referer": f"https://a/?authorization={TOKEN}&b=1",
            "User-Agent": f"x authorization={TOKEN}",
        }
        client = kind(plain, site).request(path, headers=headers)
        assert client.status == (200 if path.startswith(PATH) else 404)
        client.disconnect(clean=False)
        (line,) = site._logFile.getvalue().splitlines()
        assert "eyJ" not in line
        assert f"GET {path.replace(TOKEN, '***')} HTTP" in line
        assert '"https://a/?authorization=***&b=1" "x authorization=***"' in line

    def test_repr_of_a_request(self, plain: Wire, site: Any) -> None:
        """
        The repr of a request, which failures log, contains no token.
        """
        client = Client(plain, site)
        client.say(f"GET {PATH}?authorization={TOKEN} HTTP/1.1\r\nHost: x\r\n".encode())
        (request,) = client.protocol.protocol._channel.requests
        assert repr(request) == "<BoundedRequest (no method yet) (no uri yet)>"
        request.method, request.uri = b"GET", f"/x?authorization={TOKEN}".encode()
        assert repr(request) == "<BoundedRequest GET /x?authorization=***>"
        client.disconnect(clean=False)
