"""
Who may ask a server that stands on somebody's own machine: the pages that it served itself.

A browser there opens pages of other sites as well. One whose name is made to resolve to 127.0.0.1 (DNS
rebinding) counts as the same origin as what listens there, and could read it all; what gives it away is the
``Host`` that the browser sends, its own name. And any page at all may POST a form here; what gives that away
is ``Origin``.

Strategy: two pure functions on header values. Each returns why a request is refused, in one sentence, or
``None``; they raise nothing.

Sources: https://www.rfc-editor.org/rfc/rfc6761#section-6.3 (``localhost``),
https://www.rfc-editor.org/rfc/rfc9110#field.host, https://fetch.spec.whatwg.org/#origin-header,
https://www.w3.org/TR/fetch-metadata/
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence

__all__ = ["is_local_host", "refuse_host", "refuse_origin"]

_HOST = re.compile(rb"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+)\]|(?P<name>[0-9A-Za-z._-]+))(?::(?P<port>[0-9]*))?")

_DEFAULT_PORTS = {b"http": b"80", b"https": b"443"}


def refuse_host(hosts: Sequence[bytes], version: bytes) -> str | None:
    """
    Tell whether a request names this machine in a way that no other site can.

    :param hosts: the values of ``Host``, one for each line.
    :param version: the protocol's name and version, as in the request line.
    :returns: why not, or ``None`` where it does.
    """
    if not hosts and version == b"HTTP/1.0":
        # From before there was Host; and no browser speaks it, so none can be misled.
        return None
    if len(hosts) != 1:
        return "A request must have one Host header."
    if not is_local_host(hosts[0]):
        return "This demo answers only under an IP address or as localhost: other names may be DNS rebinding."
    return None


def is_local_host(host: bytes) -> bool:
    """
    Tell whether a host, with or without a port, is an IP address or ``localhost``.
    """
    found = _HOST.fullmatch(host)
    return found is not None and _is_local_name(found)


def refuse_origin(
    origin: bytes | None, fetch_site: bytes | None, scheme: bytes, host: bytes | None
) -> str | None:
    """
    Tell whether a request that changes something comes from a page of this server.

    :param origin: the value of ``Origin``.
    :param fetch_site: the value of ``Sec-Fetch-Site``, which no page can set, and which still holds behind
        a proxy that speaks TLS for us, where the scheme of ``Origin`` differs from ours.
    :param scheme: ``http`` or ``https``, as the request came.
    :param host: the value of ``Host``.
    :returns: why not, or ``None`` where it does.
    """
    if fetch_site == b"same-origin":
        return None
    if origin is not None and host is not None:
        asked_by, _, asked_host = origin.lower().partition(b"://")
        if (asked_by, _with_port(asked_by, asked_host)) == (scheme, _with_port(scheme, host.lower())):
            return None
    return "Only a page of this server may do that: the Origin header must match the Host header."


def _is_local_name(found: re.Match[bytes]) -> bool:
    port = found["port"]
    # Longer than any port: int() of it could be made expensive.
    if port and (len(port) > 5 or int(port) > 65535):
        return False
    try:
        if found["ipv6"] is not None:
            ipaddress.IPv6Address(found["ipv6"].decode("ascii"))
            return True
        ipaddress.IPv4Address(found["name"].decode("ascii"))
        return True
    except ValueError:
        name = (found["name"] or b"").lower().removesuffix(b".")
        return name == b"localhost" or name.endswith(b".localhost")


def _with_port(scheme: bytes, host: bytes) -> bytes:
    default = _DEFAULT_PORTS.get(scheme)
    return host.removesuffix(b":" + default) if default is not None else host
