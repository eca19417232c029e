"""
Builds the service of a hub from its configuration: web tree, site, listeners, admin endpoints, access log.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from txsse.hub.service import HubService
from txsse.mercure.settings import PATH
from txsse.service.config import BadConfig, Config
from txsse.service.endpoints import check_endpoints, check_listens
from txsse.service.issuers import make_issuers
from txsse.service.local_hosts import foreign_host_rule
from txsse.service.service import HTTPService
from txsse.service.status import status_tree
from txsse.service.systemd_notify import Notifier
from txsse.service.tree import HubTree, make_settings
from txsse.web.bounded_site import BoundedSite
from txsse.web.listening import Listeners, as_endpoints

__all__ = ["default_url", "make_hub"]

_log = Logger()


def make_hub(config: Config, reactor: IReactorTime) -> HTTPService:
    """
    Make the service; it does not listen before it is started.

    :raises BadConfig: for an invalid configuration.
    """
    check_listens(config.listen)
    # Before the URL is derived from them: an invalid endpoint would be reported as a missing --url.
    check_endpoints(reactor, (*config.listen, *config.admin))
    issuers = make_issuers(config, reactor)
    settings = make_settings(config, issuers, config.url or default_url(config.listen))
    tree = HubTree(config, settings, reactor)
    site = BoundedSite(
        tree,
        reactor=reactor,
        max_body=config.max_body,
        max_bodies=config.max_bodies,
        request_timeout=config.request_timeout,
        max_connections=config.max_connections,
        wants_body=tree.wants_body,
        refuse=foreign_host_rule(config.listen, settings.url),
    )
    if config.access_log not in (None, "-"):
        site.logPath = _writable(config.access_log)
    if config.access_log is None:
        site.log = lambda request: None  # type: ignore[method-assign]
    serving = HubService(
        tree.hub,
        site,
        config.listen,
        shutdown_timeout=config.shutdown_timeout,
        on_listening=_announcer(f"{settings.path}"),
    )
    admin = None
    if config.admin:
        admin_site = BoundedSite(
            status_tree(tree.hub, tree.health),
            reactor=reactor,
            max_body=config.max_body,
            request_timeout=config.request_timeout,
            wants_body=lambda request: False,
            refuse=foreign_host_rule(config.admin, _LOCAL_URL),
        )
        admin_site.log = lambda request: None  # type: ignore[method-assign]
        endpoints = as_endpoints(reactor, config.admin)
        admin = admin_site, Listeners(endpoints, admin_site, _announcer("/health/ready"))
    _log.info(
        "Accepted audience of tokens: {audience}", audience=", ".join(settings.audience or (settings.url,))
    )
    return HTTPService(serving, health=tree.health, admin=admin, notifier=Notifier())


def _announcer(path: str) -> Callable[[str], None]:
    def announce(url: str) -> None:
        _log.info("Listening at {url}", url=f"{url.removesuffix('/')}{path}")

    return announce


# The admin endpoints have no public URL: health checks and metrics do not disclose one.
_LOCAL_URL = "http://localhost/"

_TCP = re.compile(r"(tcp6?|ssl|tls):(?:port=)?([1-9][0-9]*)(.*)")
_INTERFACE = re.compile(r":interface=((?:[^:\\]|\\.)+)")


def default_url(endpoints: Iterable[str]) -> str:
    """
    Return the URL of a hub without ``--url``, derived from its endpoints.

    :raises BadConfig: if no endpoint has a fixed TCP port.
    """
    for endpoint in endpoints:
        found = _TCP.fullmatch(endpoint)
        if found is not None:
            kind, port, rest = found.groups()
            interface = _INTERFACE.search(rest)
            host = "localhost" if interface is None else interface[1].replace("\\", "")
            if ":" in host:
                host = f"[{host}]"
            if host in ("0.0.0.0", "[::]"):
                host = "localhost"
            return f"{'http' if kind.startswith('tcp') else 'https'}://{host}:{port}{PATH}"
    raise BadConfig(
        "--url: it is missing; give the URL that clients use for the hub, such as https://example.org" + PATH
    )


def _writable(path: str) -> str:
    try:
        # Readable by its owner only, because it shows which client reads what. An existing file keeps its
        # mode.
        os.close(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600))
        return path
    except OSError as error:
        raise BadConfig(f"--access-log: cannot write {path} ({error.strerror})") from None
