"""
The service as a demo: a page with live streams, and a hub to play with.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable

from twisted.application.service import MultiService
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from txsse._clock import wall
from txsse._extras import MissingExtra
from txsse.demo.resource import Demo
from txsse.service.config import BadConfig, Config
from txsse.service.endpoints import Listener, check_listens, make_endpoint
from txsse.service.service import HTTPService
from txsse.web.bounded_site import BoundedSite

__all__ = ["TAKEN", "make_demo"]

_log = Logger()

#: The options that it takes.
TAKEN = ("listen", "journal")

# How long the token lasts that is made for it, in seconds.
_TOKEN_LIFETIME = 24 * 3600


def make_demo(config: Config, reactor: IReactorTime) -> MultiService:
    """
    Make the service.

    :raises BadConfig: where it cannot be.
    """
    check_listens(config.listen)
    try:
        demo = Demo(reactor, config.journal)
    except (ValueError, ImportError) as error:
        raise BadConfig(f"--journal: {error}") from None
    site = BoundedSite(
        demo,
        reactor=reactor,
        max_body=config.max_body,
        request_timeout=config.request_timeout,
        max_connections=config.max_connections,
        parse_forms=True,
    )
    announce = _announcer(demo, reactor)
    listeners = [Listener(each, make_endpoint(reactor, each), site, announce) for each in config.listen]
    return HTTPService(reactor, demo, site, listeners)


def _announcer(demo: Demo, reactor: IReactorTime) -> Callable[[str], None]:
    """
    Make what says where the demo is; the first time, it puts the hub there.
    """
    told = False

    def announce(url: str) -> None:
        nonlocal told
        _log.info("The demo is at {url}", url=url)
        if not told and url.startswith("http"):
            told = True
            try:
                from txsse.mercure.auth.mint import make_token
                from txsse.mercure.auth.verify import shared_secret
                from txsse.mercure.resource import put_hub
                from txsse.mercure.settings import PATH, Settings
            except MissingExtra as error:
                _log.info("There is no hub to try: {problem}", problem=error)
                return
            secret = secrets.token_urlsafe(32)
            hub_url = url.removesuffix("/") + PATH
            settings = Settings(url=hub_url, issuers=[shared_secret(secret)], anonymous=True)
            put_hub(demo, demo.hub, settings)
            token = make_token(
                secret,
                audience=hub_url,
                publish=["*"],
                subscribe=["*"],
                expires=wall(reactor) + _TOKEN_LIFETIME,
            )
            _log.info(
                "Read what is published:\n  curl -N '{url}?match=demo'\n"
                "Publish, by a key that was made for this time:\n"
                "  curl -d topic=demo -d data=Hello -H 'Authorization: Bearer {token}' {url}",
                url=hub_url,
                token=token,
            )

    return announce
