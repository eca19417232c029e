"""
Reads the keys that tokens are verified with. PyJWT does the cryptography.

Strategy: the kind of a key determines the algorithms that it may be used with; the algorithm that a token
names is only compared with them. A public key is therefore never used as a secret, and the algorithm ``none``
is never accepted.

Sources: https://www.rfc-editor.org/rfc/rfc7517, https://www.rfc-editor.org/rfc/rfc8725
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

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

#: All algorithms that a hub can allow.
ALGORITHMS = (*_HMAC, *_RSA, *_EC.values(), "EdDSA")

# The length of the hash of HS256, in bytes: the minimum of RFC 7518, section 3.2. The RFC demands more for
# HS384 and HS512; txsse does not.
_MIN_SECRET = 32
_MIN_RSA_BITS = 2048


PublicKey: TypeAlias = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey
PrivateKey: TypeAlias = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


class BadKey(ValueError):
    """
    The content is not a usable key.
    """


@dataclass(frozen=True)
class Key:
    """
    A key that verifies tokens.

    :ivar algorithms: the algorithms that it may be used with.
    :ivar material: a secret, or a public key.
    :ivar id: the ``kid`` by which tokens name it.
    :ivar private: the secret or private key, with which ``txsse token`` signs; ``None`` if it is not known.
    """

    algorithms: Sequence[str]
    material: PublicKey | bytes = field(repr=False)
    id: str | None = None
    private: PrivateKey | bytes | None = field(default=None, repr=False)

    def limited_to(self, algorithms: Iterable[str]) -> Key:
        """
        Return this key for those of its algorithms that are given.
        """
        allowed = set(algorithms)
        return replace(self, algorithms=tuple(each for each in self.algorithms if each in allowed))


def secret_key(secret: str | bytes, *, id: str | None = None) -> Key:
    """
    Return a key for a secret that the hub shares with the issuer of tokens.

    :raises BadKey: if the secret is too short to be safe, or is recognised as something else, such as a
        public key: every client that has the public key could sign tokens.
    """
    # Python represents bytes of environment variables that are not UTF-8 as surrogates.
    material = secret.encode("utf-8", "surrogateescape") if isinstance(secret, str) else secret
    found = recognise(material)
    if found is not None:
        # A file may hold the formats that have a ``form``.
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
        # Another version of PyJWT may recognise more formats. It would then reject the key with every token.
        raise BadKey("this is a key in another format, not a secret; convert it to PEM") from None
    return Key(_HMAC, material, id, material)


def pem_key(pem: bytes, *, id: str | None = None) -> Key:
    """
    Return the key of a PEM file: a public key, a certificate, or a private key.

    :raises BadKey: for any other content.
    """
    private = None
    public: object
    try:
        if b"PRIVATE KEY-----" in pem:
            loaded = load_pem_private_key(pem, None)
            private = loaded if isinstance(loaded, PrivateKey) else None
            public = loaded.public_key()
        elif b"BEGIN CERTIFICATE-----" in pem:
            public = load_pem_x509_certificate(pem).public_key()
        else:
            public = load_pem_public_key(pem)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise BadKey(f"not a key in PEM format: {_first_line(error)}") from None
    return _make_key(public, id, private)


def jwks_keys(document: str | bytes, *, public: bool = False) -> list[Key]:
    """
    Return the usable keys of a JSON Web Key Set.

    Keys of an unsupported kind, and keys that are not for signatures, are skipped.

    :param public: whether the set is public. Secrets are skipped then: a published secret is no secret.
    :raises BadKey: if the document is not a key set, or has no usable key.
    """
    try:
        parsed = json.loads(document)
        entries = parsed["keys"]
    except (ValueError, TypeError, KeyError, RecursionError):
        entries = None
    if not isinstance(entries, list):
        raise BadKey("not a JSON Web Key Set, which is an object with a list named keys")
    keys = [key for key in map(_jwk, entries) if key is not None]
    if public:
        keys = [key for key in keys if not set(key.algorithms) & set(_HMAC)]
    if not keys:
        raise BadKey("the JSON Web Key Set holds no key that can be used")
    return keys


def read_key(path: Path) -> list[Key]:
    """
    Return the keys of a file: PEM, a JSON Web Key Set, or a secret on a single line.

    A byte order mark, UTF-16, quotes and white space around PEM or a set are ignored. Any other content that
    is recognised is refused.

    :raises BadKey: if the file cannot be read, or contains none of these.
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
    algorithm = entry.get("alg")
    if algorithm is not None and algorithm not in ALGORITHMS:
        return None
    operations = entry.get("key_ops")
    if isinstance(operations, list) and "verify" not in operations:
        return None
    try:
        key = _public_jwk(entry, algorithm)
    except (PyJWTError, ValueError, TypeError, KeyError, AttributeError, UnsupportedAlgorithm):
        return None
    limited = key if algorithm is None else key.limited_to([algorithm])
    return limited if limited.algorithms else None


def _public_jwk(entry: Mapping[str, object], algorithm: str | None) -> Key:
    id = entry.get("kid")
    id = id if isinstance(id, str) else None
    parsed: object = PyJWK(dict(entry), algorithm=algorithm).key
    if isinstance(parsed, bytes):
        return secret_key(parsed, id=id)
    return _make_key(parsed.public_key() if isinstance(parsed, PrivateKey) else parsed, id)


def _make_key(public: object, id: str | None, private: PrivateKey | None = None) -> Key:
    if isinstance(public, rsa.RSAPublicKey):
        if public.key_size < _MIN_RSA_BITS:
            raise BadKey(f"an RSA key needs at least {_MIN_RSA_BITS} bits")
        return Key(_RSA, public, id, private)
    if isinstance(public, ec.EllipticCurvePublicKey) and public.curve.name in _EC:
        return Key((_EC[public.curve.name],), public, id, private)
    if isinstance(public, ed25519.Ed25519PublicKey):
        return Key(("EdDSA",), public, id, private)
    raise BadKey("this kind of key is not supported; use RSA, P-256, P-384, P-521 or Ed25519")


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
