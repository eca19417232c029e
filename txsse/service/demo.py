"""
The service of ``twist txsse --demo``: a page with live streams, and a Mercure hub with a temporary key.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from txsse._clock import wall
from txsse._extras import MissingExtra
from txsse.demo.resource import Demo
from txsse.hub.service import HubService
from txsse.service.config import BadConfig, Config
from txsse.service.endpoints import check_endpoints, check_listens
from txsse.service.service import HTTPService
from txsse.web.bounded_site import BoundedSite

__all__ = ["TAKEN", "make_demo"]

_log = Logger()

#: The options that the demo accepts.
TAKEN = ("listen", "journal")

# The lifetime of the token that the demo prints, in seconds.
_TOKEN_LIFETIME = 24 * 3600


def make_demo(config: Config, reactor: IReactorTime) -> HTTPService:
    """
    Make the service; it does not listen before it is started.

    :raises BadConfig: for an invalid configuration.
    """
    check_listens(config.listen)
    check_endpoints(reactor, config.listen)
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
    return HTTPService(_DemoService(demo, site, config.listen, on_listening=announce))


class _DemoService(HubService):
    """
    The service of the demo's hub, which ends the other streams of the demo too.
    """

    def __init__(
        self,
        demo: Demo,
        site: BoundedSite,
        endpoints: Sequence[str],
        *,
        on_listening: Callable[[str], object],
    ) -> None:
        super().__init__(demo.hub, site, endpoints, on_listening=on_listening)
        self._demo = demo

    async def end_streams(self) -> None:
        """
        End all streams of the demo.
        """
        await self._demo.stop()
        await super().end_streams()


def _announcer(demo: Demo, reactor: IReactorTime) -> Callable[[str], None]:
    """
    Return a function that logs the URL of the demo, and at its first HTTP URL adds a hub to the web tree.
    """
    has_hub = False

    def announce(url: str) -> None:
        nonlocal has_hub
        _log.info("The demo is at {url}", url=url)
        if not has_hub and url.startswith("http"):
            has_hub = True
            try:
                from txsse.mercure.auth.mint import make_token
                from txsse.mercure.auth.verify import shared_secret
                from txsse.mercure.resource import put_hub
                from txsse.mercure.settings import PATH, Settings
            except MissingExtra as error:
                _log.info("The demo has no hub: {problem}", problem=error)
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
                "To subscribe:\n  curl -N '{url}?match=demo'\n"
                "To publish, with a token that is valid until the demo stops:\n"
                "  curl -d topic=demo -d data=Hello -H 'Authorization: Bearer {token}' {url}",
                url=hub_url,
                token=token,
            )

    return announce
