"""
Post forms to a hub for ``txsse publish`` and other commands, one after the other on one connection.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from twisted.web.client import Agent, HTTPConnectionPool
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IResponse

from txsse._redact import without_secrets
from txsse.cli.insecure_tls import TrustAnyone
from txsse.cli.publish_result import PUBLISHED, NotDone, explain, judge
from txsse.client.stream import Body, cause_of
from txsse.client.tls import Policy
from txsse.web.body import BodyReader, BodyTooLarge

__all__ = ["Answer", "Poster"]

# The largest body of a response that is read, in bytes: a hub responds with an ID, or one sentence.
_MAX_ANSWER = 65536

# How long a connection is kept for the next update, in seconds: less than servers keep it; Node has the
# shortest time, 5 s. An update that is sent while the server closes the connection is lost.
_KEPT = 4


@dataclass(frozen=True)
class Answer:
    """
    A hub's response.

    :ivar status: its status.
    :ivar header: returns a header field, ``None`` if the field is missing.
    :ivar body: its body.
    """

    status: int
    header: Callable[[str], str | None]
    body: bytes


class Poster:
    """
    Post forms to one URL of a hub.

    :param url: the URL.
    :param timeout: how long one request may take, in seconds.
    :param insecure: whether any certificate is accepted.
    :param agent: makes the requests; ``None`` for the default one.
    :param success: what has happened if a request succeeds, for errors.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        url: str,
        *,
        timeout: float,
        insecure: bool = False,
        agent: IAgent | None = None,
        success: str = PUBLISHED,
    ) -> None:
        self._success = success
        self._reactor = reactor
        self._url = url
        # The URL as messages show it.
        self._name = without_secrets(url)
        self._timeout = timeout
        self._policy = Policy()
        self._pool = HTTPConnectionPool(reactor)
        self._pool.maxPersistentPerHost = 1
        self._pool.cachedConnectionTimeout = _KEPT
        if agent is None:
            trust = TrustAnyone() if insecure else self._policy
            # Shorter than the time-out, so that an unreachable host is reported as such.
            patience = 0.9 * timeout
            agent = Agent(reactor, trust, connectTimeout=patience, pool=self._pool)
        self._agent = agent

    async def post(self, fields: Sequence[tuple[str, str]], token: str | None) -> str:
        """
        Post one update.

        :param fields: the form's fields.
        :param token: the token that allows the publication; ``None`` to send no token.
        :returns: the update's ID.
        :raises NotDone: if the hub did not return an ID; it is then refused, or its outcome is unknown.
        :raises CancelledError: if the call is cancelled.
        """
        answer = await self.ask(fields, token)
        return judge(
            answer.status,
            answer.header,
            answer.body,
            url=self._name,
            topics=[value for name, value in fields if name == "topic"],
            has_token=token is not None,
        )

    async def ask(self, fields: Sequence[tuple[str, str]], token: str | None) -> Answer:
        """
        Post one form.

        :returns: the response, whatever its status is.
        :raises NotDone: if the hub cannot be reached, or the outcome is unknown.
        :raises CancelledError: if the call is cancelled.
        """
        posting = Deferred.fromCoroutine(self._exchange(fields, token))
        posting.addTimeout(self._timeout, self._reactor, self._timed_out)
        try:
            return await posting
        except NotDone:
            raise
        except Exception as error:
            cause = cause_of(Failure(error))
            if isinstance(cause, (CancelledError, ConnectingCancelledError)):
                raise CancelledError() from None
            certificates = self._policy.certificates()
            raise explain(cause, self._name, certificates, success=self._success) from None

    async def close(self) -> None:
        """
        Close the connection.
        """
        await self._pool.closeCachedConnections()

    async def _exchange(self, fields: Sequence[tuple[str, str]], token: str | None) -> Answer:
        headers = Headers({"Content-Type": ["application/x-www-form-urlencoded"], "User-Agent": ["txsse"]})
        if token is not None:
            headers.addRawHeader("Authorization", f"Bearer {token}")
        body = Body(urlencode(fields).encode("ascii"))
        response: IResponse = await self._agent.request(b"POST", self._url.encode("ascii"), headers, body)
        reader = BodyReader(_MAX_ANSWER)
        try:
            content = await reader.read(response)
        except BodyTooLarge:
            content = reader.received

        def header(name: str) -> str | None:
            values = response.headers.getRawHeaders(name.encode("ascii"))
            return values[-1].decode("utf-8", "replace") if values else None

        return Answer(response.code, header, content)

    def _timed_out(self, _: object, seconds: float) -> Failure:
        problem = f"{self._name} has not responded in {seconds:g} s; it is unknown whether {self._success}"
        return Failure(NotDone(problem))
