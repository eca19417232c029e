"""
Serve the Mercure protocol: programs in any language publish over HTTP, and browsers subscribe.

Example::

    settings = Settings(url="https://example.org/.well-known/mercure", issuers=[shared_secret("…")])
    root.putChild(b".well-known", well_known(hub, settings))

It needs PyJWT, cryptography and urlpattern: ``pip install 'txsse[mercure]'``.
"""

from txsse._extras import needs

# This module is imported before any other module of the package, so one check covers them all.
with needs("mercure", "Mercure"):
    import cryptography as _cryptography  # noqa: F401
    import jwt as _jwt  # noqa: F401
    import urlpattern as _urlpattern  # noqa: F401

from txsse.mercure.auth.jwks import RemoteKeys
from txsse.mercure.auth.keys import BadKey, Key, jwks_keys, pem_key, read_key, secret_key
from txsse.mercure.auth.verify import FixedKeys, Issuer, shared_secret
from txsse.mercure.resource import MercureResource, put_hub, well_known
from txsse.mercure.settings import Settings

__all__ = [
    "BadKey",
    "FixedKeys",
    "Issuer",
    "Key",
    "MercureResource",
    "RemoteKeys",
    "Settings",
    "jwks_keys",
    "pem_key",
    "put_hub",
    "read_key",
    "secret_key",
    "shared_secret",
    "well_known",
]
