"""
Signing keys for the tests' tokens, and their PEM and JWK forms. Each key is generated once per process and
kept by its name.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from jwt.algorithms import ECAlgorithm, HMACAlgorithm, OKPAlgorithm, RSAAlgorithm


@cache
def rsa_key(name: str = "", *, bits: int = 2048) -> rsa.RSAPrivateKey:
    """
    Return the RSA key of this name.
    """
    return rsa.generate_private_key(65537, bits)


@cache
def ec_key(curve: type[ec.EllipticCurve] = ec.SECP256R1, name: str = "") -> ec.EllipticCurvePrivateKey:
    """
    Return the key of this name on a curve.
    """
    return ec.generate_private_key(curve())


@cache
def ed_key(name: str = "") -> ed25519.Ed25519PrivateKey:
    """
    Return the Ed25519 key of this name.
    """
    return ed25519.Ed25519PrivateKey.generate()


def private_pem(key: Any) -> bytes:
    """
    Return a private key as PKCS#8 PEM.
    """
    return bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def public_pem(key: Any) -> bytes:
    """
    Return a private key's public half as PEM.
    """
    return bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


def jwk(key: Any, *, private: bool = False, **members: Any) -> dict[str, Any]:
    """
    Return a secret, or a private key's public half, as a JWK; with ``private``, the private key.
    """
    if isinstance(key, (str, bytes)):
        written = HMACAlgorithm.to_jwk(key)
    else:
        half = key if private else key.public_key()
        if isinstance(key, rsa.RSAPrivateKey):
            written = RSAAlgorithm.to_jwk(half)
        elif isinstance(key, ec.EllipticCurvePrivateKey):
            written = ECAlgorithm.to_jwk(half)
        else:
            written = OKPAlgorithm.to_jwk(half)
    own = json.loads(written)
    # PyJWT sets key_ops; here each test sets what a key may be used for.
    own.pop("key_ops", None)
    return {**own, **members}


def jwks(*entries: Any) -> str:
    """
    Return a JWK set with these entries.
    """
    return json.dumps({"keys": entries})
