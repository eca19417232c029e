"""
Publishes updates from forms that clients POST to the hub.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Generator, Sequence
from functools import lru_cache

from twisted.internet.interfaces import IReactorTime
from twisted.web.http import Request

from txsse._randomness import Randomness, new_uuid, randomness_of
from txsse._timeslice import TimeSlices
from txsse.hub.hub import Hub
from txsse.hub.replay import RESET_TYPE
from txsse.journal.update import EARLIEST, MAX_ID_BYTES, Update
from txsse.mercure.auth.grants import Grants
from txsse.mercure.auth.verify import Verifier
from txsse.mercure.characters import check_text
from txsse.mercure.credentials import check_origin, find_credential
from txsse.mercure.errors import BadRequest, Forbidden, MissingToken, TooLarge
from txsse.mercure.forms import Fields, check_form, read_body
from txsse.mercure.selectors.matcher import MAX_PATTERN
from txsse.mercure.selectors.url_pattern import path_pattern
from txsse.mercure.settings import Settings
from txsse.mercure.subscription_events import EVENT_TYPE
from txsse.protocol.event import ServerSentEvent
from txsse.topics.topic_set import ALL

__all__ = ["Publisher"]

# A thousand billion milliseconds are thirty years: a longer number is a mistake.
_MAX_RETRY_DIGITS = 12


class Publisher:
    """
    Authorises publish requests and publishes their updates.

    :param hub: the hub.
    :param verifier: returns what a token grants.
    :param settings: the hub's settings.
    :param reactor: the reactor.
    """

    def __init__(self, hub: Hub, verifier: Verifier, settings: Settings, reactor: IReactorTime) -> None:
        self._hub = hub
        self._reactor = reactor
        self._turns = TimeSlices(reactor)
        self._verifier = verifier
        self._settings = settings
        pattern = path_pattern(settings.path)
        # Most updates are published to the same few topics.
        self._is_reserved = lru_cache(maxsize=1024)(lambda topic: pattern.test(topic, settings.url))

    async def publish(self, request: Request) -> str:
        """
        Publish the update of a request.

        :returns: the update's ID.
        :raises Refusal: if the request is malformed or not authorised.
        """
        credential = find_credential(request, self._settings)
        if credential is None:
            raise MissingToken("publishing requires a token")
        grants = await self._verifier.verify(credential.token, "publish")
        if credential.by_cookie:
            check_origin(request, self._settings)
        if not grants.publish:
            # The body is not read: no update would be allowed.
            raise Forbidden("the token does not allow publishing")
        check_form(request)
        update = self._read(read_body(request, self._settings.max_body))
        # This work is sliced: a token may have a thousand patterns, and an update a hundred topics.
        await self._turns.finish(self._check_topics(update.topics, grants))
        await self._hub.wait_for_room(update)
        return await self._hub.publish_update(update)

    def _read(self, fields: Fields) -> Update:
        values: defaultdict[str, list[str]] = defaultdict(list)
        for name, value in fields:
            values[name].append(value)
        topics = values["topic"]
        if not topics:
            raise BadRequest("the field topic is missing")
        if len(topics) > self._settings.max_topics:
            raise TooLarge(f"an update may have at most {self._settings.max_topics} topics")
        event = ServerSentEvent(
            _single(values, "data"),
            _read_type(_single(values, "type")),
            _read_id(_single(values, "id"), randomness_of(self._reactor)),
            _read_retry(_single(values, "retry")),
        )
        return Update(map(_check_topic, topics), event, private="private" in values)

    def _check_topics(self, topics: Sequence[str], grants: Grants) -> Generator[None, None, None]:
        # Reserved topics come first, since they do not depend on the token.
        for number, topic in enumerate(topics):
            if number:
                yield
            if self._is_reserved(topic):
                raise BadRequest(f"topics below {self._settings.path} are reserved for the hub")
        for number, topic in enumerate(topics):
            if number and grants.publish.selectors:
                yield
            if not (yield from grants.publish.seek([topic])):
                raise Forbidden("the token does not allow publishing to this topic")


def _single(values: dict[str, list[str]], name: str) -> str:
    given = values[name]
    if len(given) > 1:
        raise BadRequest(f"the field {name} occurs more than once")
    return given[0] if given else ""


def _check_topic(topic: str) -> str:
    if len(topic) > MAX_PATTERN:
        raise TooLarge(f"a topic may have at most {MAX_PATTERN} characters")
    if topic == ALL:
        raise BadRequest("* stands for all topics, and cannot be published to")
    return check_text("topic", topic)


def _read_id(id: str, randomness: Randomness) -> str:
    if not id:
        # A random ID does not disclose how many updates were published.
        return new_uuid(randomness)
    if len(id.encode()) > MAX_ID_BYTES:
        raise TooLarge(f"an id may have at most {MAX_ID_BYTES} bytes")
    if id.startswith("#") or id == EARLIEST:
        raise BadRequest(f"ids that begin with #, and {EARLIEST}, are reserved for the hub")
    return check_text("id", id)


def _read_type(type: str) -> str | None:
    if len(type) > MAX_PATTERN:
        raise TooLarge(f"a type may have at most {MAX_PATTERN} characters")
    if type in (EVENT_TYPE, RESET_TYPE):
        raise BadRequest(f"the type {type} is reserved for the hub")
    return check_text("type", type) or None


def _read_retry(retry: str) -> float | None:
    if not retry:
        return None
    if not (retry.isascii() and retry.isdigit()):
        raise BadRequest("retry must be a number of milliseconds, written in digits only")
    if len(retry) > _MAX_RETRY_DIGITS:
        raise TooLarge(f"retry may have at most {_MAX_RETRY_DIGITS} digits")
    return int(retry) / 1000
