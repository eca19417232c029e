"""
A hub that listens on this machine alone, and the pages of other sites that a browser on it has open.
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
    Return what a site asks of each request: the check of ``Host`` where the site is for this machine alone,
    that is, where it listens on loopback only, and its URL names no other host, as that of a hub behind a
    proxy does.

    :param endpoints: what it listens on.
    :param url: its URL.
    """
    _, _, host = origin_of(url).partition("://")
    is_local = is_local_host(host.encode()) and all(_LOOPBACK.fullmatch(each) for each in endpoints)
    return _refuse_foreign_host if is_local else lambda request: None


def _refuse_foreign_host(request: Request) -> Sentence | None:
    """
    Refuse a request that names another host: a page whose name was made to resolve to this machine (DNS
    rebinding) would count as the hub's own.

    :returns: the answer; ``None`` where the request may go on.
    """
    hosts = request.requestHeaders.getRawHeaders(b"Host") or []
    if refuse_host(hosts, request.clientproto) is None:
        return None
    return Sentence(
        403,
        "This hub listens on this machine alone, and answers under an IP address or as localhost: another "
        "name may be DNS rebinding. If it stands behind a proxy, tell it its URL with --url.",
    )
