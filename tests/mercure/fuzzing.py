"""
Hypothesis strategies for requests to a Mercure hub (methods, paths, queries, headers, tokens), a hub with
private updates to send them to, and checks of the responses.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote_from_bytes, urlencode

import jwt
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from twisted.web.server import Request, Site

from tests.fakes import Client, Wire
from tests.mercure.world import (
    DISCONNECT,
    DISCONNECTER,
    OTHER_SECRET,
    PATH,
    PUBLISHER,
    UNRETAIN,
    MercureWorld,
    Reader,
    detail,
    old_token,
    token,
)
from txsse.mercure.settings import COOKIE, OLD_COOKIE

FORM = "application/x-www-form-urlencoded"

# The data of all private updates and the subscriber's payload: only an authorised client may receive it.
MARK = "PRIVATE-0b5c"

# The statuses of all expected responses, to valid and to invalid requests.
STATUSES = {200, 204, 304, 400, 401, 403, 404, 405, 406, 413}


def fuzz(examples: int) -> settings:
    """
    Return settings for a reproducible run of this many examples.
    """
    return settings(derandomize=True, deadline=None, max_examples=examples, database=None)


@contextmanager
def hub(**options: Any) -> Iterator[MercureWorld]:
    """
    Make a hub for one example; at the end no stream and no delayed call may remain.
    """
    with pytest.MonkeyPatch.context() as patch:
        wire = Wire("direct", patch)
        world = MercureWorld(wire, **{"anonymous": True, **options})
        yield world
        world.end()
        assert wire.reactor.getDelayedCalls() == []
        assert world.hub.metrics().channels == 0


def send(
    world: MercureWorld,
    method: bytes,
    target: bytes,
    fields: Sequence[tuple[bytes, bytes]] = (),
    body: bytes = b"",
) -> Client:
    """
    Send a raw request, which may be malformed in ways that an HTTP library would not permit.
    """
    lines = [method + b" " + target + b" HTTP/1.1", b"Host: hub.example"]
    if body:
        lines.append(b"Content-Length: %d" % len(body))
    lines += [name + b": " + value for name, value in fields]
    site = Site(world.root, requestFactory=Request, reactor=world.reactor, timeout=None)
    site.log = lambda request: None  # type: ignore[method-assign]
    client = Client(world.wire, site)
    world.clients.append(client)
    client.say(b"\r\n".join([*lines, b"", b""]) + body)
    return client


def check(client: Client) -> None:
    """
    Check that the request has been answered with an expected status, or that the connection is closed.
    """
    assert client.status in STATUSES or (client.status == 0 and not client.connected)
    if client.status == 401:
        assert client.headers["www-authenticate"].startswith("Bearer ")
    if client.status == 405:
        assert client.headers["allow"]
    check_secret(client)


def check_secret(client: Client) -> None:
    """
    Check that the client has received no private update and no subscriber's payload.
    """
    client.pump()
    assert MARK.encode() not in client.body
    assert MARK not in repr(client.headers)


# Any bytes without a line break.
lines = st.binary(max_size=40).filter(lambda value: not re.search(rb"[\r\n]", value))
clean = st.text(st.characters(exclude_categories=["Cc", "Cf", "Cs"]), max_size=12)
texts = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        ["", "*", "a", "/a", "{a}", "{", "}", ":x", "/:x", "(", "/(.*", "[", "https://[", "%", "%zz"]
    ),
    st.sampled_from(["earliest", "#1", "u0", "1" * 40, "x" * 3000, "\ufeff", "\u202e", "\x00", "\r\nid: 1"]),
)
numbers = st.one_of(
    st.integers(-5, 10**12).map(str),
    st.floats().map(str),
    st.sampled_from(["0", "0.0", "1e400", "-0", "NaN", "inf", "1_0", "٣", "²", "1.0001", "0.001", "1" * 400]),
)

PARAMETERS = ["match", "match_exact", "match_urlpattern", "last_event_id", "topic", "lastEventID"]
PARAMETERS += ["Last-Event-ID", "authorization", "matchTemplate", "match[]", "Match", "data", "id", "private"]
PARAMETERS += ["type", "retry", "key", "jti", "sub", "expires_in", "retain", "retain_for"]

named = st.tuples(st.sampled_from(PARAMETERS) | texts, texts)
encoded = st.one_of(
    st.binary(max_size=60),
    st.lists(named, max_size=5).map(lambda fields: urlencode(fields).encode()),
    st.lists(st.tuples(st.sampled_from(PARAMETERS), st.binary(max_size=8)), max_size=4).map(
        lambda fields: b"&".join(name.encode() + b"=" + value for name, value in fields)
    ),
)

# Tokens without access to the private updates, and invalid tokens. The hub's clock is at 0.
TOKENS = {
    "publisher": token(publish=["*"]),
    "disconnecter": DISCONNECTER,
    "elsewhere": token(
        subscribe=["elsewhere", {"match": "https://c.example/:x", "match_type": "urlpattern"}]
    ),
    "expired": token(subscribe=["*"], exp=0),
    "early": token(subscribe=["*"], nbf=1000),
    "other_audience": token(subscribe=["*"], aud="https://elsewhere.example/"),
    "other_key": jwt.encode({"mercure": {"subscribe": ["*"]}}, OTHER_SECRET, "HS256"),
    "unsigned": jwt.encode({"mercure": {"subscribe": ["*"]}}, None, "none"),  # type: ignore[arg-type]
    "one_bad_detail": token(authorization_details=[detail(["subscribe"], "*"), detail(["subscribe"], {})]),
    "old_elsewhere": old_token(subscribe=["elsewhere", "https://c.example/{x}"]),
    "old_publisher": old_token(publish=["*"]),
}
tokens = st.one_of(
    st.sampled_from(sorted(TOKENS.values())),
    st.builds(
        lambda token, place, byte: token[: place % len(token)] + byte + token[place % len(token) + 1 :],
        st.sampled_from([token(subscribe=["*"]), old_token(subscribe=["*"]), *TOKENS.values()]),
        st.integers(0, 1000),
        # Replaced by characters outside base64url: of a token's last character some bits have no meaning.
        st.text("!.=\x7f", min_size=1, max_size=2),
    ),
    st.text("aA0.-_=~+/", max_size=30),
)
authorizations = st.one_of(
    lines,
    tokens.map(lambda token: f"Bearer {token}".encode("latin-1")),
    tokens.map(lambda token: f"bearer   {token} ".encode("latin-1")),
    st.sampled_from([b"Bearer", b"Bearer ", b"Basic YTpi", b"Bearer a b", b"BEARER \xff", b"Bearer=a"]),
)
cookies = st.one_of(
    lines,
    st.builds(
        lambda name, token: f"{name}={token}".encode("latin-1"), st.sampled_from([COOKIE, OLD_COOKIE]), tokens
    ),
    st.builds(lambda value: COOKIE.encode() + b"=" + value, lines),
)
headers = st.one_of(
    st.tuples(st.just(b"Authorization"), authorizations),
    st.tuples(st.just(b"Cookie"), cookies),
    st.tuples(
        st.just(b"Last-Event-ID"), lines | st.sampled_from([b"", b"earliest", b"u0", b"u1", b"x" * 2000])
    ),
    st.tuples(
        st.just(b"Origin"), lines | st.sampled_from([b"null", b"https://hub.example", b"https://a.example"])
    ),
    st.tuples(
        st.just(b"Referer"), lines | st.sampled_from([b"http://[", b"https://hub.example/x", b"//", b"x:"])
    ),
    st.tuples(
        st.just(b"Accept"), lines | st.sampled_from([b"text/event-stream;q=x", b"*/*;q=0", b"text/*", b",,;"])
    ),
    st.tuples(
        st.just(b"Content-Type"),
        lines
        | st.sampled_from([FORM.encode(), b"multipart/form-data", b"multipart/form-data; boundary=a", b";"]),
    ),
    st.tuples(st.just(b"If-None-Match"), lines | st.sampled_from([b"*", b'"', b'W/"a"'])),
    st.tuples(st.just(b"Access-Control-Request-Method"), lines),
)
methods = st.one_of(
    st.sampled_from(
        [b"GET", b"QUERY", b"POST", b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"get", b"TRACE", b"CONNECT"]
    ),
    st.from_regex(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,12}", fullmatch=True),
)
segments = st.one_of(
    st.sampled_from(
        [
            b"subscriptions",
            b"disconnect",
            b"unretain",
            b"exact",
            b"urlpattern",
            b"",
            b".",
            b"..",
            b"%2e%2e",
            b"%2F",
            b"%",
            b"%ff",
            b"*",
        ]
    ),
    st.binary(max_size=8).map(lambda value: quote_from_bytes(value).encode()),
    st.binary(max_size=8).filter(lambda value: not re.search(rb"[\s?#]", value)),
)
places = st.one_of(
    st.just(PATH.encode()),
    st.lists(segments, max_size=5).map(lambda each: b"/".join([PATH.encode(), *each])),
    st.lists(segments, max_size=4).map(lambda each: b"/".join([PATH.encode(), b"subscriptions", *each])),
    st.lists(segments, max_size=1).map(lambda each: b"/".join([DISCONNECT.encode(), *each])),
    st.lists(segments, max_size=1).map(lambda each: b"/".join([UNRETAIN.encode(), *each])),
    st.lists(segments, max_size=3).map(
        lambda each: b"/".join([b"/.well-known/oauth-protected-resource", *each])
    ),
    st.lists(segments, max_size=3).map(lambda each: b"/" + b"/".join(each)),
)


def with_secrets(world: MercureWorld) -> Reader:
    """
    Publish private updates, and return a subscriber that may read them, with a payload.
    """
    reader = world.subscribe("*", token=token(subscribe=["*"], payload={"secret": MARK}))
    publish_secrets(world)
    return reader


def publish_secrets(world: MercureWorld) -> None:
    """
    Publish private updates to topics that resemble those that the tests ask for.
    """
    for topics in (["a"], ["/a", "A"], ["{a}", "https://hub.example/a"], [":x", "x" * 2000], ["elsewhere/"]):
        form = [*(("topic", topic) for topic in topics), ("data", MARK), ("private", "on")]
        assert world.ask("POST", form=form, token=PUBLISHER).status == 200


compatibilities = st.booleans()
