"""
The web tree of the service: the hub at the path of its URL, and the page to try it with.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, cast
from urllib.parse import unquote_to_bytes

from twisted.internet.interfaces import IReactorTime
from twisted.web.http import Request

from txsse.hub.hub import Hub
from txsse.journal.urls import journal_named
from txsse.mercure.auth.identity import check_key_claim
from txsse.mercure.auth.verify import Issuer
from txsse.mercure.debug_page import PageResource
from txsse.mercure.resource import put_hub
from txsse.mercure.settings import Settings
from txsse.mercure.stream_options import StreamOptions
from txsse.server.limits import Limits
from txsse.server.slow import POLICIES
from txsse.server.upgrade import Upgrader
from txsse.service.config import BadConfig, Config
from txsse.service.status import Health
from txsse.service.urls import check_hub_url
from txsse.web.responses import Branch

__all__ = ["HubTree", "make_settings"]


def make_settings(config: Config, issuers: Sequence[Issuer], url: str) -> Settings:
    """
    Make the settings of the Mercure hub from the configuration of the service.

    :param url: the hub's URL.
    :raises BadConfig: for invalid settings.
    """
    try:
        check_key_claim(config.key_claim)
    except ValueError as error:
        raise BadConfig(f"--key-claim: {error}") from None
    try:
        check_hub_url(url)
        return Settings(
            url=url,
            issuers=issuers,
            audience=config.audience,
            **({"algorithms": config.algorithm} if config.algorithm else {}),
            anonymous=config.anonymous,
            origins=config.origin,
            publish_origins=config.publish_origin,
            cookie=config.cookie,
            subscriptions=config.subscriptions,
            compatibility=config.compatibility,
            key_claim=config.key_claim,
            revocation_lifetime=config.revocation_lifetime,
            max_body=config.max_body,
            max_matchers=config.max_matchers,
            max_topics=config.max_topics,
            retained_per_token=config.retained_per_token,
        )
    except ValueError as error:
        raise BadConfig(f"--url: {error}") from None


class HubTree(Branch):
    """
    The hub at the path of its URL, and the page of ``--debugger``.

    :param config: the configuration of the service.
    :param settings: the settings of the Mercure hub.
    :param reactor: the reactor.
    :raises BadConfig: for an invalid journal or overflow policy.
    :ivar hub: the hub.
    :ivar health: whether the hub is ready.
    """

    def __init__(self, config: Config, settings: Settings, reactor: IReactorTime) -> None:
        super().__init__()
        self._path = settings.path.encode()
        try:
            journal = journal_named(
                config.journal,
                max_count=config.journal_count,
                max_bytes=config.journal_bytes,
                max_age=config.journal_age,
                max_retained=config.retained_count,
                max_retained_bytes=config.retained_bytes,
                reactor=reactor,
            )
        except (ValueError, ImportError) as error:
            raise BadConfig(f"--journal: {error}") from None
        self.hub = Hub(
            journal=journal,
            upgrader=Upgrader(reactor=reactor),
            reactor=reactor,
            # The frame of an update may be larger than the form that published it.
            max_update_size=2 * config.max_body,
            max_topics=config.max_matchers,
            max_pattern_weight=config.max_pattern_weight,
            max_retained_bytes_per_stream=config.max_retained_bytes_per_stream,
        )
        self.health = Health(self.hub)
        streams = _stream_options(config)
        try:
            self._mercure = put_hub(self, self.hub, settings, **streams)
        except ValueError as error:
            raise BadConfig(str(error)) from None
        if config.debugger:
            self.putChild(b"", PageResource(settings))

    def wants_body(self, request: Request) -> bool:
        """
        Return whether to read the body of a request, from its head alone.

        The body of a publication, a subscription, or a request to disconnect clients or to remove a retained
        update is read, if the request has a valid token.
        """
        # Decoded, as twisted.web decodes paths.
        path = unquote_to_bytes(request.path)
        known = path == self._path or path in self._mercure.form_paths
        return known and self._mercure.wants_body(request)


def _stream_options(config: Config) -> StreamOptions:
    if config.slow_policy not in POLICIES:
        raise BadConfig(f"--slow-policy must be one of {', '.join(POLICIES)}, not {config.slow_policy!r}")
    return {
        "keepalive": config.keepalive,
        "max_lifetime": config.max_lifetime,
        "peer_timeout": config.peer_timeout,
        "max_buffer": config.max_buffer,
        "max_total_buffer": config.max_total_buffer,
        "slow_policy": cast(Literal["close", "drop", "latest", "replay"], config.slow_policy),
        "limits": Limits(channels=config.max_streams, per_address=config.max_streams_per_address),
    }
