"""
Fetches the key set of an authorisation server, and keeps it up to date.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.web.client import Agent
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IResponse

from txsse._clock import make_steady
from txsse._extras import need_tls
from txsse._redact import without_secrets
from txsse._typing import AnyAgent, AnyReactor
from txsse._waiters import SharedCall
from txsse.mercure.auth.keys import BadKey, Key, jwks_keys
from txsse.web.body import BodyReader, BodyTooLarge

__all__ = ["RemoteKeys"]

_log = Logger()

# How long a fetched set is fresh, in seconds, if the server sends no max-age; and the bounds of max-age.
_FRESH = 300.0
_MIN_FRESH = 30.0
_MAX_FRESH = 3600.0

# How long a set stays in use after its freshness ends, in seconds, before callers wait for a new one; and for
# how long they do not wait again after a fetch failed. Without this limit, a withdrawn key would stay valid
# for the first caller after an idle time, however long.
_LENIENCE = 60.0

# The minimum time between two fetches, in seconds, if a key is not in the set or a fetch failed. Any client
# can send a token with an unknown key.
_RETRY = 10.0

# The timeout of a fetch, in seconds, and the maximum size of the response, in bytes.
_TIMEOUT = 10.0
_MAX_SIZE = 256 * 1024

_URL = re.compile(r"https://[^/]|http://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?(/|$)")
_MAX_AGE = re.compile(r"(?:^|[\s,])max-age=\"?(\d{1,9})")


class RemoteKeys:
    """
    A JSON Web Key Set at a URL.

    The set is fetched when it is first needed, again when it expires, and when a token names a key that is
    not in it. If a fetch fails, the last set stays in use. A lookup waits for a fetch only if the set has no
    such key, or expired more than a minute ago.

    :param url: the URL: ``https://``, or ``http://`` on this machine.
    :param reactor: the reactor.
    :param agent: the HTTP client; ``None`` for a plain ``Agent``, which follows no redirects.
    :raises ValueError: for any other URL.
    :raises ImportError: without ``agent``, if the packages for TLS are missing.
    """

    def __init__(self, url: str, *, reactor: AnyReactor, agent: AnyAgent | None = None) -> None:
        if not _URL.match(url):
            raise ValueError(f"keys are fetched over https only, not from {without_secrets(url)}")
        if agent is None:
            need_tls("fetching keys over https")
        self.version = 0
        self._url = url
        self._reactor: IReactorTime = make_steady(cast(IReactorTime, reactor))
        self._agent: IAgent = cast("IAgent | None", agent) or Agent(reactor, connectTimeout=_TIMEOUT)
        self._keys: Sequence[Key] = ()
        self._fresh_until = 0.0
        self._lenient_until = 0.0
        self._not_before = 0.0
        self._fetching: SharedCall[None] = SharedCall()

    @property
    def known(self) -> bool:
        """
        Whether the set was ever fetched.
        """
        return bool(self._keys)

    def __repr__(self) -> str:
        return f"<RemoteKeys {without_secrets(self._url)}>"

    async def find(self, id: str | None) -> Sequence[Key]:
        """
        Return the keys, after a fetch if one is due and the keys at hand do not suffice.
        """
        now = self._reactor.seconds()
        missing = not self._keys or (id is not None and all(key.id != id for key in self._keys))
        due = now >= self._not_before and (missing or now >= self._fresh_until)
        if due and not self._fetching.is_running:
            self._fetching.join(self._fetch)
        if self._fetching.is_running and (missing or now >= self._lenient_until):
            # All callers during a fetch wait for it: at the start there are often many.
            await self._fetching.join(self._fetch)
        return self._keys

    async def _fetch(self) -> None:
        try:
            await self._try()
        except BaseException:
            # An agent may fail with any exception. The callers use the keys at hand.
            _log.failure("{keys} cannot be read", keys=self)

    async def _try(self) -> None:
        self._not_before = self._reactor.seconds() + _RETRY
        try:
            keys, fresh = await self._ask().addTimeout(_TIMEOUT, self._reactor)
        except Exception as error:
            _log.error("{keys} cannot be fetched: {problem}", keys=self, problem=_describe(error))
            self._lenient_until = self._reactor.seconds() + _LENIENCE
            return
        if keys != self._keys:
            _log.info("{keys} has {count} keys", keys=self, count=len(keys))
            self._keys = keys
            self.version += 1
        self._fresh_until = self._reactor.seconds() + fresh
        self._lenient_until = self._fresh_until + _LENIENCE

    def _ask(self) -> Deferred[tuple[Sequence[Key], float]]:
        return Deferred.fromCoroutine(self._request())

    async def _request(self) -> tuple[Sequence[Key], float]:
        headers = Headers({"Accept": ["application/jwk-set+json, application/json"]})
        response: IResponse = await self._agent.request(b"GET", self._url.encode(), headers)
        try:
            content = await BodyReader(_MAX_SIZE).read(response)
        except BodyTooLarge:
            raise BadKey(f"the server answers with more than {_MAX_SIZE} bytes") from None
        if response.code != 200:
            raise BadKey(f"the server answers {response.code}")
        return jwks_keys(content, public=True), _freshness(response)


def _freshness(response: IResponse) -> float:
    fields = response.headers.getRawHeaders("Cache-Control") or []
    found = _MAX_AGE.search(",".join(fields).lower())
    return _FRESH if found is None else min(max(float(found[1]), _MIN_FRESH), _MAX_FRESH)


def _describe(error: Exception) -> str:
    reasons = getattr(error, "reasons", None)
    if reasons:
        # Twisted's HTTP client wraps the causes of a failure in a list.
        error = reasons[0].value
    return without_secrets(str(error)) or type(error).__name__
