"""
Checks of the URLs in the service's options: ``--url`` and ``--jwks``.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

__all__ = ["check_hub_url", "check_url"]

# https://www.rfc-editor.org/rfc/rfc3986#section-2
_CHARACTERS = re.compile(r"[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]*", re.ASCII)


def check_url(url: str) -> None:
    """
    Check that a URL is valid.

    :raises ValueError: with what is wrong. The message omits a URL that may contain a password.
    """
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise ValueError(
            "its host or port is invalid; write the URL like https://example.org:8443/"
        ) from None
    if "@" in parts.netloc:
        raise ValueError(
            "it contains a user name or a password; leave them out: the URL is shown to clients and in logs"
        )
    if not _CHARACTERS.fullmatch(url):
        raise ValueError(
            f"{_without_query(url)!r} contains characters that are invalid in a URL; leave out spaces, and "
            "write an international host name as xn--"
        )


def _without_query(url: str) -> str:
    # The whole query is cut: if it contains a space, the end of a token in it is unknown.
    path, mark, _ = url.partition("?")
    return f"{path}?***" if mark else path


def check_hub_url(url: str) -> None:
    """
    Check that a URL is valid, and that requests can reach a hub at its path.

    :raises ValueError: with what is wrong.
    """
    check_url(url)
    segments = urlsplit(url).path.split("/")
    # The hub compares this path with the paths of requests, which twisted.web has decoded, and in which
    # clients have resolved "." and "..".
    if any("%" in segment or segment in (".", "..") for segment in segments):
        raise ValueError(f"{url!r}: requests would not reach a hub there; choose a path without %, . and ..")
