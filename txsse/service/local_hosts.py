"""
DNS-rebinding check for a hub that listens on loopback only: it refuses requests for foreign host names.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from twisted.web.http import Request

from txsse.web.origin import is_local_host, origin_of, refuse_host
from txsse.web.responses import Sentence

__all__ = ["foreign_host_rule"]

_LOOPBACK = re.compile(
    r"(?:tcp6?|ssl|tls):.*:interface=(?:127\.[0-9.]+|localhost|(?:\\?:){2}1|0*(?:\\:0*){7}1)(?::.*)?"
)


def foreign_host_rule(endpoints: Iterable[str], url: str) -> Callable[[Request], Sentence | None]:
    """
    Return the check of a site's requests: that of ``Host`` for a local site, none for another one.

    A site is local if it listens on loopback only and its URL names a local host. The URL of a hub behind a
    proxy names another host.

    :param endpoints: the site's endpoint strings.
    :param url: the site's URL.
    """
    _, _, host = origin_of(url).partition("://")
    is_local = is_local_host(host.encode()) and all(_LOOPBACK.fullmatch(each) for each in endpoints)
    return _refuse_foreign_host if is_local else lambda request: None


def _refuse_foreign_host(request: Request) -> Sentence | None:
    """
    Refuse a request for a host name that is not local.

    A page of a site whose name an attacker makes resolve to this machine (DNS rebinding) would otherwise have
    the hub's own origin.

    :returns: the response; ``None`` to accept the request.
    """
    hosts = request.requestHeaders.getRawHeaders(b"Host") or []
    if refuse_host(hosts, request.clientproto) is None:
        return None
    return Sentence(
        403,
        "This hub listens on loopback only, and accepts requests for an IP address or localhost: another "
        "host name may be DNS rebinding. If the hub is behind a proxy, set its URL with --url.",
    )
