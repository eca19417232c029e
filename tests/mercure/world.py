"""
A Mercure hub on a fake network and a fake clock, with clients that publish and subscribe, and the tokens for
them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlencode

import jwt
from twisted.web.server import Request, Site

from tests.fakes import Client, Wire
from txsse import EventStreamParser, Hub, ServerSentEvent
from txsse.mercure import Settings, shared_secret, well_known
from txsse.mercure.auth.grants import DETAIL_TYPE, OWN_DETAIL_TYPE
from txsse.web.responses import NOTHING, Branch

URL = "https://hub.example/.well-known/mercure"
PATH = "/.well-known/mercure"
DISCONNECT = f"{PATH}/disconnect"
UNRETAIN = f"{PATH}/unretain"
SECRET = "a secret that is long enough for it"
OTHER_SECRET = "another secret, which the hub rejects"

Fields = Iterable[tuple[str, str]]


def detail(actions: Iterable[str], *topics: Any, **others: Any) -> dict[str, Any]:
    """
    Return an authorization detail for a token. A topic is a matcher, or a string for an exact matcher.
    """
    matchers = [{"match": topic} if isinstance(topic, str) else topic for topic in topics]
    return {"type": DETAIL_TYPE, "actions": list(actions), "topics": matchers, **others}


def sign(
    claims: Mapping[str, Any],
    *,
    key: Any = SECRET,
    algorithm: str = "HS256",
    headers: Mapping[str, Any] | None = None,
) -> str:
    """
    Sign these claims without adding any.
    """
    return jwt.encode(dict(claims), key, algorithm, headers={"typ": "at+jwt", **(headers or {})})


def token(
    *, publish: Iterable[Any] = (), subscribe: Iterable[Any] = (), payload: Any = None, **claims: Any
) -> str:
    """
    Return a token that this hub accepts for an hour. Other claims replace or extend its own; a claim of
    ``None`` is left out.
    """
    details = []
    if publish:
        details.append(detail(["publish"], *publish))
    if subscribe:
        given = {} if payload is None else {"payload": payload}
        details.append(detail(["subscribe"], *subscribe, **given))
    own = {"aud": URL, "exp": 3600, "authorization_details": details, **claims}
    return sign({name: value for name, value in own.items() if value is not None})


def old_token(**claims: Any) -> str:
    """
    Return a token in the form used before Mercure 1.0.
    """
    return jwt.encode({"mercure": claims}, SECRET, "HS256")


class Reader:
    """
    A client that has requested a stream.
    """

    def __init__(self, client: Client) -> None:
        self.client = client
        self._parser = EventStreamParser()
        self._events: list[ServerSentEvent] = []
        self._read = 0

    @property
    def status(self) -> int:
        return self.client.status

    @property
    def headers(self) -> dict[str, str]:
        return self.client.headers

    @property
    def events(self) -> list[ServerSentEvent]:
        """
        The events received so far.
        """
        self.client.pump()
        body = self.client.body
        self._events += self._parser.feed(body[self._read :])
        self._read = len(body)
        return self._events

    @property
    def texts(self) -> list[str]:
        """
        The data of the updates received so far, without subscription events.
        """
        return [event.data for event in self.events if event.event in (None, "message")]

    def disconnect(self) -> None:
        """
        Lose the connection.
        """
        self.client.disconnect(clean=False)


class MercureWorld:
    """
    A hub at :data:`URL`. Its clock begins at 0.
    """

    def __init__(self, wire: Wire, hub: Hub | None = None, **settings: Any) -> None:
        self.wire = wire
        self.reactor = wire.reactor
        self.hub = hub or Hub(reactor=wire.reactor, upgrader=wire.upgrader())
        streams = {"keepalive": None, **settings.pop("streams", {})}
        settings = {"url": URL, "issuers": [shared_secret(SECRET)], **settings}
        self.settings = Settings(**settings)
        self.root = Branch(NOTHING)
        self.root.putChild(b".well-known", well_known(self.hub, self.settings, **streams))
        self.clients: list[Client] = []

    def ask(
        self,
        method: str = "GET",
        path: str = PATH,
        *,
        query: Fields = (),
        form: Fields | None = None,
        body: bytes = b"",
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Client:
        """
        Send a request on its own connection.
        """
        fields = dict(headers or {})
        if token is not None:
            fields["Authorization"] = f"Bearer {token}"
        if form is not None:
            body = urlencode(list(form)).encode()
            fields.setdefault("Content-Type", "application/x-www-form-urlencoded")
        query = list(query)
        target = f"{path}?{urlencode(query)}" if query else path
        lines = [f"{method} {target} HTTP/1.1", "Host: hub.example"]
        if body or form is not None:
            lines.append(f"Content-Length: {len(body)}")
        lines += [f"{name}: {value}" for name, value in fields.items()]
        site = Site(self.root, requestFactory=Request, reactor=self.reactor, timeout=None)
        site.log = lambda request: None  # type: ignore[method-assign]
        client = Client(self.wire, site)
        self.clients.append(client)
        client.say("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
        return client

    def subscribe(
        self,
        *topics: str,
        patterns: Iterable[str] = (),
        token: str | None = None,
        more: Fields = (),
        headers: Mapping[str, str] | None = None,
    ) -> Reader:
        """
        Request a stream.
        """
        query = [
            *(("match", topic) for topic in topics),
            *(("match_urlpattern", pattern) for pattern in patterns),
            *more,
        ]
        return Reader(self.ask(query=query, token=token, headers=headers))

    def publish(self, topic: str, data: str = "", *, token: str | None = None, **fields: str) -> Client:
        """
        Publish with the given token, or else with one that allows every topic.
        """
        given = PUBLISHER if token is None else token
        return self.ask("POST", form=[("topic", topic), ("data", data), *fields.items()], token=given)

    def retain(self, topic: str, key: str, data: str = "", **fields: str) -> Client:
        """
        Publish a retained update with a token that allows every topic.
        """
        return self.publish(topic, data, retain=key, **fields)

    def unretain(
        self, *topics: str, token: str | None = None, headers: Mapping[str, str] | None = None, **fields: str
    ) -> Client:
        """
        Request that a retained update is removed, with the given token, or else with one that allows every
        topic.
        """
        form = [*(("topic", topic) for topic in topics), *fields.items()]
        return self.ask(
            "POST", UNRETAIN, form=form, token=PUBLISHER if token is None else token, headers=headers
        )

    def cut_off(
        self, *, token: str | None = None, headers: Mapping[str, str] | None = None, **form: Any
    ) -> Client:
        """
        Request that clients are disconnected, with the given token, or else with one that allows it.
        """
        given = DISCONNECTER if token is None else token
        return self.ask("POST", DISCONNECT, form=form.items(), token=given, headers=headers)

    def end(self) -> None:
        """
        Disconnect every client.
        """
        for client in self.clients:
            if client.transport.connected:
                client.disconnect(clean=False)
        self.reactor.run_soon()


PUBLISHER = token(publish=["*"])
DISCONNECTER = token(authorization_details=[{"type": OWN_DETAIL_TYPE, "actions": ["disconnect"]}])
