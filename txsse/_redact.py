"""
Secrets in URLs: cut out of what people and logs are shown, and told from what may stand on a command line.

Every user of the machine can read a command line, and logs are read by people who may not do what the secret
allows.
"""

from __future__ import annotations

import re

__all__ = ["holds_secret", "without_secrets"]

# Up to the last @ that may belong to it: a password that nobody has encoded holds slashes, spaces and more.
# Too much is cut out rather than too little.
# Schemes are bounded: otherwise a long word, such as a server's Location, takes the square of its length.
_PASSWORD = re.compile(r"([a-z][a-z0-9+.-]{0,30}://[^\s:/?#@]*):(?:[^,]*@|\S*@)", re.IGNORECASE)

_URL = re.compile(r"[a-z][a-z0-9+.-]{0,30}://\S+", re.IGNORECASE)

# A field of a query or a fragment, without the quotes and full stops that a sentence has behind a URL.
_FIELD = re.compile(r"([?&#])([^\s?&#=]*=)?([^\s?&#]*?)(?=[\]'\")>,;:.]*(?:[?&#]|$))")

# Names of fields that hold a secret wherever they are in use.
_SECRET_FIELD = re.compile(
    r"[?&#](?:[\w.-]*(?:token|secret|passw|authorization|api[_-]?key|signature|credential)[\w.-]*"
    r"|auth|key|sig|code|jwt)=[^\s&#]",
    re.IGNORECASE,
)

# The number of a Redis database.
_PUBLIC_FIELD = "db="


def without_secrets(text: str) -> str:
    """
    Return a text in which the URLs have neither passwords nor the values of their queries: any of those may
    be a token.
    """
    return _URL.sub(_without_query, _PASSWORD.sub(r"\1:***@", text))


def holds_secret(text: str) -> bool:
    """
    Tell whether a text is a URL with a password, or with a token in its query.
    """
    return any(pattern.search(text) for pattern in (_PASSWORD, _SECRET_FIELD))


def _without_query(url: re.Match[str]) -> str:
    return _FIELD.sub(_without_value, url[0])


def _without_value(field: re.Match[str]) -> str:
    mark, name, value = field.groups()
    return field[0] if not value or name == _PUBLIC_FIELD else f"{mark}{name or ''}***"
