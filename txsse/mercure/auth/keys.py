"""
Keys that tokens are verified with. The cryptography is PyJWT's.

Strategy: a key says itself for which algorithms it is good, by its kind; what a token names is only compared
with that. So a public key is never taken for a secret, and nothing is taken for ``none``.

Sources: https://www.rfc-editor.org/rfc/rfc7517, https://www.rfc-editor.org/rfc/rfc8725
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from cryptography.x509 import load_pem_x509_certificate
from jwt import PyJWK
from jwt.algorithms import HMACAlgorithm
from jwt.exceptions import PyJWTError

from txsse.mercure.auth.key_material import recognise

__all__ = ["ALGORITHMS", "BadKey", "Key", "jwks_keys", "pem_key", "read_key", "secret_key"]

_HMAC = ("HS256", "HS384", "HS512")
_RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_EC = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}

#: All algorithms that may be allowed.
ALGORITHMS = (*_HMAC, *_RSA, *_EC.values(), "EdDSA")

# By RFC 7518, section 3.2, no shorter than the hash; more is asked of nobody.
_MIN_SECRET = 32
_MIN_RSA_BITS = 2048


PublicKey: TypeAlias = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey
PrivateKey: TypeAlias = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


class BadKey(ValueError):
    """
    What was given is no key that can be used.
    """


@dataclass(frozen=True)
class Key:
    """
    A key.

    :ivar algorithms: what it is good for.
    :ivar material: a secret, or a public key.
    :ivar id: what tokens may call it by.
    :ivar private: the private key, where it was given: it can sign, too.
    """

    algorithms: Sequence[str]
    material: PublicKey | bytes = field(repr=False)
    id: str | None = None
    private: PrivateKey | bytes | None = field(default=None, repr=False)

    def limited_to(self, algorithms: Iterable[str]) -> Key:
        """
        Return the same key for fewer algorithms.
        """
        allowed = set(algorithms)
        return replace(self, algorithms=tuple(each for each in self.algorithms if each in allowed))


def secret_key(secret: str | bytes, *, id: str | None = None) -> Key:
    """
    Make a key out of a secret that the hub shares with those who make tokens.

    :raises BadKey: for one that is too short to be safe, and for what is recognised as something else, such
        as a public key: everybody who has that could sign tokens.
    """
    # The environment has surrogates for what is not UTF-8.
    material = secret.encode("utf-8", "surrogateescape") if isinstance(secret, str) else secret
    found = recognise(material)
    if found is not None:
        advice = found.advice if found.form is None else "give it as a key file"
        raise BadKey(f"{found.what} is not a secret; {advice}")
    if len(material) < _MIN_SECRET:
        raise BadKey(
            f"a secret needs at least {_MIN_SECRET} bytes, and this one has {len(material)}; "
            "make one with: openssl rand -base64 48"
        )
    try:
        HMACAlgorithm(HMACAlgorithm.SHA256).prepare_key(material)
    except PyJWTError:
        # Some version of PyJWT recognises more. It would refuse this one with every token.
        raise BadKey("this is a key in another format, not a secret; convert it to PEM") from None
    return Key(_HMAC, material, id, material)


def pem_key(pem: bytes, *, id: str | None = None) -> Key:
    """
    Make a key out of a PEM file: a public key, a certificate, or a private key.

    :raises BadKey: for any other.
    """
    private: Any = None
    try:
        if b"PRIVATE KEY-----" in pem:
            private = load_pem_private_key(pem, None)
            public: Any = private.public_key()
        elif b"BEGIN CERTIFICATE-----" in pem:
            public = load_pem_x509_certificate(pem).public_key()
        else:
            public = load_pem_public_key(pem)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise BadKey(f"no key in PEM format: {_first_line(error)}") from None
    return Key(_algorithms_of(public), public, id, private)


def jwks_keys(document: str | bytes, *, public: bool = False) -> list[Key]:
    """
    Read a set of keys. Those of kinds that are not known here, and those that are not for signatures, are
    passed over.

    :param public: whether anybody can read it; then secrets are passed over, too, as they are none.
    :raises BadKey: for what is no such set, and for one without any key that can be used.
    """
    try:
        parsed = json.loads(document)
        entries = parsed["keys"]
    except (ValueError, TypeError, KeyError, RecursionError):
        entries = None
    if not isinstance(entries, list):
        raise BadKey("no JSON Web Key Set: an object with a list named keys")
    keys = [key for key in map(_jwk, entries) if key is not None]
    if public:
        keys = [key for key in keys if not set(key.algorithms) & set(_HMAC)]
    if not keys:
        raise BadKey("the JSON Web Key Set holds no key that can be used")
    return keys


def read_key(path: Path) -> list[Key]:
    """
    Read a file: PEM, a JSON Web Key Set, or a secret on a line of its own. A byte order mark, UTF-16, quotes
    and white space around PEM and a set make no difference; what else is recognised is refused.

    :raises BadKey: for one that cannot be read, or is none of these.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadKey(f"cannot read {path} ({error.strerror})") from None
    try:
        found = recognise(content)
        if found is None:
            return [secret_key(content.rstrip(b"\r\n"))]
        if found.form == "pem":
            return [pem_key(found.text)]
        if found.form == "json":
            return jwks_keys(found.text)
        raise BadKey(f"it is {found.what}; {found.advice}")
    except BadKey as error:
        raise BadKey(f"{path}: {error}") from None


def _jwk(entry: object) -> Key | None:
    if not isinstance(entry, Mapping) or entry.get("use", "sig") != "sig":
        return None
    named = entry.get("alg")
    if named is not None and named not in ALGORITHMS:
        return None
    operations = entry.get("key_ops")
    if isinstance(operations, list) and "verify" not in operations:
        return None
    try:
        key = _public_jwk(entry)
    except (PyJWTError, ValueError, TypeError, KeyError, AttributeError, UnsupportedAlgorithm):
        return None
    limited = key if named is None else key.limited_to([named])
    return limited if limited.algorithms else None


def _public_jwk(entry: Mapping[str, Any]) -> Key:
    id = entry.get("kid")
    id = id if isinstance(id, str) else None
    parsed: Any = PyJWK(dict(entry), algorithm=entry.get("alg")).key
    if isinstance(parsed, bytes):
        return secret_key(parsed, id=id)
    public = parsed.public_key() if hasattr(parsed, "private_bytes") else parsed
    return Key(_algorithms_of(public), public, id)


def _algorithms_of(public: Any) -> Sequence[str]:
    if isinstance(public, rsa.RSAPublicKey):
        if public.key_size < _MIN_RSA_BITS:
            raise BadKey(f"an RSA key needs at least {_MIN_RSA_BITS} bits")
        return _RSA
    if isinstance(public, ec.EllipticCurvePublicKey) and public.curve.name in _EC:
        return (_EC[public.curve.name],)
    if isinstance(public, ed25519.Ed25519PublicKey):
        return ("EdDSA",)
    raise BadKey("a kind of key that no algorithm here uses; there are RSA, P-256, P-384, P-521 and Ed25519")


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
