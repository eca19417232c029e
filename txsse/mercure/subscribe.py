"""
Opens streams for subscribe requests: reads the token, the matchers and the last event ID.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

from twisted.web.http import Request

from txsse._clock import wall
from txsse.errors import UpgradeRefused
from txsse.hub.hub import Hub
from txsse.hub.request_admission import RequestAdmission
from txsse.hub.subscriber import Subscriber
from txsse.journal.update import EARLIEST
from txsse.mercure.auth.grants import Grants
from txsse.mercure.auth.verify import Verifier
from txsse.mercure.credentials import find_credential
from txsse.mercure.errors import BadRequest, InvalidToken, MissingToken, Refusal
from txsse.mercure.forms import Fields, check_form, read_body, read_query
from txsse.mercure.responses import RETRY_AFTER, challenge
from txsse.mercure.selectors.matcher import EXACT, MAX_PATTERN, PATTERN, TEMPLATE, Matcher, make_matcher
from txsse.mercure.settings import Settings
from txsse.mercure.subscription_events import Subscriptions
from txsse.server.access import Access
from txsse.server.upgrade import Upgrader
from txsse.topics.topic_set import Topics

__all__ = ["QUERY", "Subscribing"]

#: A safe method with a body: https://www.ietf.org/archive/id/draft-ietf-httpbis-safe-method-w-body-14.html
QUERY = b"QUERY"

# The maximum weight of all matchers of a request: some 550 KiB of memory for as long as the stream lasts, and
# 2 ms for a topic of 2 KB. Eight plain patterns fit, or a hundred topics of 270 characters.
_MAX_TOTAL_WEIGHT = 5500

_PARAMETERS = {"match": EXACT, "match_exact": EXACT, "match_urlpattern": PATTERN}


@dataclass(frozen=True)
class MatchedAccess(Access):
    """
    A subscriber's access, with the matchers and grants that it results from.
    """

    matchers: tuple[Matcher, ...] = ()
    grants: Grants = field(default_factory=Grants)

    @property
    def keys(self) -> tuple[Hashable, ...]:
        """
        The subject of the token, its ID, and the key of its session: as far as it has them.
        """
        return self.grants.identity.keys


class Subscribing:
    """
    Subscribes clients by the Mercure protocol.

    :param hub: the hub.
    :param verifier: returns what a token grants.
    :param settings: the hub's settings.
    :param upgrader: makes the streams.
    :param subscriptions: is notified of subscriptions; ``None`` if the subscription API is disabled.
    """

    def __init__(
        self,
        hub: Hub,
        verifier: Verifier,
        settings: Settings,
        *,
        upgrader: Upgrader,
        subscriptions: Subscriptions | None,
    ) -> None:
        self._verifier = verifier
        self._settings = settings
        self._reactor = upgrader.reactor
        self._subscriptions = subscriptions
        old = (b"Last-Event-ID",) if settings.compatibility else ()
        self._requests = RequestAdmission(
            hub.admission,
            self._find_access,
            upgrader,
            resume_headers=(b"Mercure-Last-Event-ID", *old),
            expired=lambda: self._refused(InvalidToken("it has expired")),
            subscribed=self._subscribed,
        )

    def render(self, request: Request) -> int:
        """
        Open a stream, or send an error response.
        """
        return self._requests.render(request)

    def _subscribed(self, subscriber: Subscriber, access: Access) -> None:
        assert isinstance(access, MatchedAccess)
        if self._subscriptions is not None:
            self._subscriptions.begin(subscriber.channel, access.matchers, access.grants)

    def _find_last_event_id(self, request: Request, fields: Fields) -> str | None:
        """
        Return the ID that a client resumes from, from its form fields.

        :returns: the ID; ``None`` if the header field names one, or the form has no such field. An empty
            header field counts as absent.
        """
        if any(request.requestHeaders.getRawHeaders(b"Last-Event-ID") or []):
            return None
        names = ["last_event_id"]
        if self._settings.compatibility:
            names += ["lastEventID", "Last-Event-ID"]
        values = [value for name, value in fields if name in names]
        return _one_of(values) if values else None

    async def _find_access(self, request: Request) -> MatchedAccess:
        try:
            # The token is checked before the query and the body are read: the work for a refused request does
            # not grow with them.
            credential = find_credential(request, self._settings)
            if credential is not None:
                grants = await self._verifier.verify(credential.token, "subscribe")
            elif self._settings.anonymous:
                grants = Grants()
            else:
                raise MissingToken("subscribing requires a token")
            fields = self._fields(request)
            last_event_id = self._find_last_event_id(request, fields)
            matchers = self._read_matchers(fields)
        except Refusal as refusal:
            raise self._refused(refusal) from None
        topics = [matcher.selector for matcher in matchers]
        private: Topics = tuple(grants.subscribe)
        return MatchedAccess(
            topics,
            private,
            last_event_id=last_event_id,
            expires=self._seconds_left(grants),
            key=grants.identity.subject,
            context=grants,
            matchers=matchers,
            grants=grants,
        )

    def _seconds_left(self, grants: Grants) -> float | None:
        return None if grants.expires is None else grants.expires - wall(self._reactor)

    def _refused(self, refusal: Refusal) -> UpgradeRefused:
        headers = {}
        reason = refusal.reason
        if refusal.error is not None:
            headers["WWW-Authenticate"] = challenge(refusal.error, self._settings)
        if isinstance(refusal, InvalidToken):
            reason = refusal.disclosed
        if refusal.status == 503:
            headers["Retry-After"] = RETRY_AFTER.decode()
        return UpgradeRefused(reason, status=refusal.status, headers=headers)

    def _fields(self, request: Request) -> Fields:
        fields = read_query(request)
        if request.method == QUERY:
            check_form(request)
            # Too many matchers are answered with 400, whether they are in the query or in the body.
            fields += read_body(request, self._settings.max_body, BadRequest)
        return fields

    def _read_matchers(self, fields: Fields) -> tuple[Matcher, ...]:
        matchers: dict[Matcher, None] = {}
        weight = 0
        for name, value in fields:
            type = self._type_of(name)
            if type is None:
                continue
            if len(value) > MAX_PATTERN:
                raise BadRequest(f"a matcher may have at most {MAX_PATTERN} characters")
            try:
                matcher = make_matcher(type, value, self._settings.url)
            except ValueError as error:
                raise BadRequest(f"{name}: {error}") from None
            if matcher in matchers:
                continue
            matchers[matcher] = None
            weight += matcher.weight
            if len(matchers) > self._settings.max_matchers:
                raise BadRequest(f"a subscription may have at most {self._settings.max_matchers} matchers")
            if weight > _MAX_TOTAL_WEIGHT:
                raise BadRequest("these matchers together are too expensive; use fewer or simpler ones")
        if not matchers:
            raise BadRequest("no topic is given; use match=TOPIC or match_urlpattern=PATTERN")
        return tuple(matchers)

    def _type_of(self, name: str) -> str | None:
        """
        Return the matcher type of a parameter; ``None`` if the parameter is not a matcher.

        :raises BadRequest: for an unknown parameter that begins with ``match``, and for ``topic`` without
            ``compatibility``.
        """
        if name in _PARAMETERS:
            return _PARAMETERS[name]
        if name[:5].lower() == "match":
            raise BadRequest(f"{name[:100]} is not a known matcher; use one of {', '.join(_PARAMETERS)}")
        if name == "topic":
            if not self._settings.compatibility:
                raise BadRequest("topic is from before Mercure 1.0; use match or match_urlpattern")
            return TEMPLATE
        return None


def _one_of(ids: Sequence[str]) -> str:
    # Empty values count as absent. Symfony sends the same ID under both of its old names. If the IDs differ,
    # the hub cannot know which one the client meant; replaying from the earliest loses no update.
    named = list(dict.fromkeys(filter(None, ids)))
    if len(named) > 1:
        return EARLIEST
    return named[0] if named else ""
