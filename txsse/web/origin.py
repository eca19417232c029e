"""
Parsing of origins and hosts, and DNS-rebinding and CSRF checks for local servers.

An origin is a scheme, a host and a port. :func:`parse_origin` and :func:`origin_of` return it as browsers
write it in ``Origin``, so equal origins are equal strings.

A browser that reaches a server on a developer's machine also has pages of other sites open. If such a site's
name is made to resolve to 127.0.0.1 (DNS rebinding), its page has the same origin as the local server and
could read everything; ``Host`` then contains that name, and :func:`refuse_host` refuses it. Any page can also
POST a form; ``Origin`` then contains the page's origin, and :func:`refuse_origin` refuses it. Both return why
a request is refused, in one sentence, or ``None``; they raise nothing.

Sources: https://url.spec.whatwg.org/#concept-host-serializer,
https://html.spec.whatwg.org/multipage/browsers.html#ascii-serialisation-of-an-origin,
https://www.rfc-editor.org/rfc/rfc6761#section-6.3 (``localhost``),
https://www.rfc-editor.org/rfc/rfc9110#field.host, https://fetch.spec.whatwg.org/#origin-header,
https://www.w3.org/TR/fetch-metadata/
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence

from hyperlink import URL

__all__ = [
    "DEFAULT_PORTS",
    "ascii_host",
    "format_origin",
    "is_local_host",
    "name_in_host",
    "origin_of",
    "parse_origin",
    "refuse_host",
    "refuse_origin",
]

#: The default port of each scheme, which an origin omits.
DEFAULT_PORTS = {"http": 80, "https": 443}

_ORIGIN = r"([a-z][a-z0-9+.-]*)://(\[[^\s/?#@\[\]]+\]|[^\s/?#@:\\\[\]]+)(?::([0-9]{1,5}))?"
_ORIGIN_ALONE = re.compile(_ORIGIN, re.ASCII | re.IGNORECASE)
_ORIGIN_OF_URL = re.compile(_ORIGIN + r"(?=[/?#]|\Z)", re.ASCII | re.IGNORECASE)

# Includes _, which the RFCs forbid in host names, but names in Docker and Kubernetes contain.
_ASCII_HOST = re.compile(r"[a-z0-9._-]+")

_HOST = re.compile(
    r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+)\]|(?P<name>[0-9A-Za-z._-]+))(?::(?P<port>[0-9]*))?", re.ASCII
)

_NO_ORIGIN = "not an origin; an origin is a scheme and a host, and a port unless it is the default: https://example.org"


def parse_origin(text: str, *, allow_null: bool = False) -> str:
    """
    Return an origin as browsers write it: in lower case, in ASCII, and without the default port.

    :param allow_null: whether ``null`` is accepted: the origin of files and sandboxed frames, which the pages
        of any site can obtain.
    :raises ValueError: for anything else, such as a URL with a path. The message continues the sentence
        "… is".
    """
    if allow_null and text == "null":
        return text
    return _read(_ORIGIN_ALONE.fullmatch(text))


def origin_of(url: str) -> str:
    """
    Return the origin of an absolute URL.

    :raises ValueError: as :func:`parse_origin` does; also for a URL with a user or a password.
    """
    return _read(_ORIGIN_OF_URL.match(url))


def format_origin(scheme: str, host: str, port: int | None) -> str:
    """
    Return an origin as text.

    :param host: a name, an IPv4 address, or an IPv6 address with or without brackets.
    :param port: the port; ``None`` for the scheme's default port.
    :raises ValueError: for an invalid host or port.
    """
    scheme, host = scheme.lower(), ascii_host(host)
    if port is not None and port > 65535:
        raise ValueError(_NO_ORIGIN)
    if ":" in host:
        host = f"[{host}]"
    return f"{scheme}://{host}" if port in (None, DEFAULT_PORTS.get(scheme)) else f"{scheme}://{host}:{port}"


def ascii_host(host: str) -> str:
    """
    Return a host in lower case and ASCII.

    A name in another script is encoded by IDNA; an IPv6 address is shortened, without brackets.

    :raises ValueError: for an invalid host.
    """
    if ":" in host:
        try:
            return ipaddress.IPv6Address(host.removeprefix("[").removesuffix("]")).compressed
        except ValueError:
            raise ValueError(_NO_ORIGIN) from None
    lowered = host.lower()
    if not lowered.isascii():
        try:
            lowered = URL("https", host).to_uri().host
        except ValueError:
            raise ValueError(_NO_ORIGIN) from None
    if not _ASCII_HOST.fullmatch(lowered):
        raise ValueError(_NO_ORIGIN)
    return lowered


def name_in_host(host: str) -> str | None:
    """
    Return the name or IPv4 address in a value of ``Host``, without the port and a final dot.

    The result is ``None`` for an IPv6 address or an invalid value.
    """
    found = _HOST.fullmatch(host)
    return None if found is None or found["name"] is None else found["name"].lower().removesuffix(".")


def refuse_host(hosts: Sequence[bytes], version: bytes) -> str | None:
    """
    Check that a request addresses this machine by a name that no other site can have.

    :param hosts: the values of ``Host``, one for each line.
    :param version: the protocol's name and version, as in the request line.
    :returns: why the request is refused, or ``None``.
    """
    if not hosts and version == b"HTTP/1.0":
        # HTTP/1.0 had no Host at first; no browser speaks it, so no browser can be misled.
        return None
    if len(hosts) != 1:
        return "A request must have one Host header."
    if not is_local_host(hosts[0]):
        return "This demo answers only under an IP address or as localhost: other names may be DNS rebinding."
    return None


def is_local_host(host: bytes) -> bool:
    """
    Return whether a host, with or without a port, is an IP address or ``localhost``.
    """
    found = _HOST.fullmatch(host.decode("latin-1"))
    return found is not None and _is_local_name(found)


def refuse_origin(
    origin: bytes | None, fetch_site: bytes | None, scheme: str, host: bytes | None
) -> str | None:
    """
    Check that a request that changes something comes from a page of this server.

    :param origin: the value of ``Origin``.
    :param fetch_site: the value of ``Sec-Fetch-Site``. No page can set it, and it stays valid behind a proxy
        that terminates TLS, where the scheme of ``Origin`` differs from the server's.
    :param scheme: ``http`` or ``https``, as the server received the request.
    :param host: the value of ``Host``.
    :returns: why the request is refused, or ``None``.
    """
    if fetch_site == b"same-origin":
        return None
    if origin is not None and host is not None:
        try:
            if parse_origin(origin.decode("latin-1")) == parse_origin(f"{scheme}://{host.decode('latin-1')}"):
                return None
        except ValueError:
            pass
    return "Only a page of this server may do that: the Origin header must match the Host header."


def _read(found: re.Match[str] | None) -> str:
    if found is None:
        raise ValueError(_NO_ORIGIN)
    scheme, host, port = found.groups()
    return format_origin(scheme, host, None if port is None else int(port))


def _is_local_name(found: re.Match[str]) -> bool:
    port = found["port"]
    # A longer text than any port: int() of it could be made expensive.
    if port and (len(port) > 5 or int(port) > 65535):
        return False
    try:
        if found["ipv6"] is not None:
            ipaddress.IPv6Address(found["ipv6"])
            return True
        ipaddress.IPv4Address(found["name"])
        return True
    except ValueError:
        name = (found["name"] or "").lower().removesuffix(".")
        return name == "localhost" or name.endswith(".localhost")
