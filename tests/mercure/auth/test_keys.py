"""
Tests of the keys that are read from secrets, PEM, JSON Web Key Sets and files.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, x25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from tests.mercure.signers import ec_key, ed_key, jwk, jwks, private_pem, public_pem, rsa_key
from txsse.mercure.auth.keys import ALGORITHMS, BadKey, Key, jwks_keys, pem_key, read_key, secret_key

SECRET = "x" * 31 + "é"
HMAC = ("HS256", "HS384", "HS512")
RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")


def certificate(key: Any) -> bytes:
    """
    Return a self-signed certificate in PEM.
    """
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a")])
    now, day = datetime.now(UTC), timedelta(days=1)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - day)
        .not_valid_after(now + day)
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(Encoding.PEM)


def signs(key: Key, algorithm: str) -> bool:
    """
    Return whether the verifying half of a key verifies a signature by its private half.
    """
    signed = jwt.encode({}, key.private, algorithm)  # type: ignore[arg-type]
    return jwt.decode(signed, key.material, [algorithm]) == {}


class SecretTests:
    def test_good(self) -> None:
        """
        A secret may be used with HMAC only, as text or bytes, and can sign.
        """
        key = secret_key(SECRET, id="a")
        assert (key.algorithms, key.material, key.id) == (HMAC, SECRET.encode(), "a")
        assert key == secret_key(SECRET.encode(), id="a")
        assert secret_key(SECRET).id is None
        assert signs(key, "HS256")

    @pytest.mark.parametrize("secret", ["", "x" * 31, b"x" * 31, "é" * 15])
    def test_too_short(self, secret: str | bytes) -> None:
        """
        A secret that is too short is refused with its length and the command for a better one, and is not
        shown.
        """
        with pytest.raises(BadKey) as raised:
            secret_key(secret)
        text = str(raised.value)
        assert "at least 32 bytes" in text
        assert f"has {len(secret.encode() if isinstance(secret, str) else secret)}" in text
        assert "openssl rand" in text
        assert "xx" not in text

    def test_bytes_from_the_environment(self) -> None:
        """
        Bytes of an environment variable that are not UTF-8 are part of the secret.
        """
        assert secret_key("\udcff" * 32).material == b"\xff" * 32

    @pytest.mark.parametrize(
        "content",
        [
            public_pem(ec_key()),
            private_pem(ec_key()),
            certificate(ec_key()),
            b"  " + public_pem(ec_key()),
            public_pem(ec_key())[:60],
            json.dumps(jwk(ec_key())).encode(),
        ],
        ids=["public", "private", "certificate", "indented", "cut", "jwk"],
    )
    def test_key_as_secret(self, content: bytes) -> None:
        """
        A public key or certificate is refused as a secret: every client that has it could sign tokens.
        """
        with pytest.raises(BadKey, match="is not a secret; give it as a key file"):
            secret_key(content)

    def test_ssh(self) -> None:
        """
        An SSH key is refused as a secret, with the advice to convert it to PEM.
        """
        content = ec_key().public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
        with pytest.raises(BadKey, match="an SSH key is not a secret; convert it to PEM"):
            secret_key(content)

    def test_what_pyjwt_recognises(self) -> None:
        """
        A secret that PyJWT would reject with every token is refused when it is read.
        """
        with pytest.raises(BadKey, match="a key in another format, not a secret"):
            secret_key(b"ssh-rsa is where I begin, and a passphrase")

    def test_not_shown(self) -> None:
        """
        The repr of a key contains neither a secret nor a private key.
        """
        shown = repr(secret_key(SECRET))
        assert shown == "Key(algorithms=('HS256', 'HS384', 'HS512'), id=None)"
        assert "private" not in repr(pem_key(private_pem(ec_key())))


class LimitedTests:
    def test_fewer(self) -> None:
        """
        Limiting a key keeps only the given algorithms that its kind supports.
        """
        key = secret_key(SECRET, id="a").limited_to(["HS512", "RS256", "HS256"])
        assert (key.algorithms, key.material, key.id) == (("HS256", "HS512"), SECRET.encode(), "a")
        assert key.limited_to([]).algorithms == ()

    def test_all_are_listed(self) -> None:
        """
        The list of algorithms contains those of all kinds of keys, and not none.
        """
        assert sorted(ALGORITHMS) == sorted([*HMAC, *RSA, "ES256", "ES384", "ES512", "EdDSA"])


class PemTests:
    @pytest.mark.parametrize(
        ("private", "algorithms"),
        [
            (rsa_key(), RSA),
            (ec_key(), ("ES256",)),
            (ec_key(ec.SECP384R1), ("ES384",)),
            (ec_key(ec.SECP521R1), ("ES512",)),
            (ed_key(), ("EdDSA",)),
        ],
        ids=["rsa", "p256", "p384", "p521", "ed25519"],
    )
    def test_kinds(self, private: Any, algorithms: tuple[str, ...]) -> None:
        """
        The kind of a PEM key determines its algorithms, and a private key can sign, too.
        """
        public = pem_key(public_pem(private), id="a")
        assert (public.algorithms, public.id, public.private) == (algorithms, "a", None)
        key = pem_key(private_pem(private))
        assert (key.algorithms, key.material) == (algorithms, public.material)
        for algorithm in algorithms:
            assert signs(key, algorithm)

    def test_certificate(self) -> None:
        """
        The key of a certificate is used, unless the file has a private key.
        """
        key = pem_key(certificate(rsa_key()))
        assert (key.algorithms, key.material) == (RSA, rsa_key().public_key())
        both = pem_key(certificate(rsa_key()) + private_pem(ec_key()))
        assert both.material == ec_key().public_key()

    def test_private_of_openssl(self) -> None:
        """
        Private keys in OpenSSL's traditional PEM formats are read.
        """
        for private in (rsa_key(), ec_key()):
            pem = private.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
            assert pem_key(pem).material == private.public_key()

    def test_short_rsa(self) -> None:
        """
        RSA keys with less than 2048 bits are refused in every PEM form.
        """
        short = rsa_key(bits=1024)
        for pem in (public_pem(short), private_pem(short), certificate(short)):
            with pytest.raises(BadKey, match="an RSA key needs at least 2048 bits"):
                pem_key(pem)

    @pytest.mark.parametrize(
        "private",
        [
            ec_key(ec.SECP256K1),
            ec_key(ec.SECP224R1),
            x25519.X25519PrivateKey.generate(),
            ed448.Ed448PrivateKey.generate(),
            dsa.generate_private_key(1024),
        ],
        ids=["p256k1", "p224", "x25519", "ed448", "dsa"],
    )
    def test_other_kinds(self, private: Any) -> None:
        """
        A key of an unsupported kind is refused with the list of supported kinds.
        """
        for pem in (public_pem(private), private_pem(private)):
            with pytest.raises(BadKey, match="use RSA, P-256, P-384, P-521 or Ed25519"):
                pem_key(pem)

    @pytest.mark.parametrize(
        "pem",
        [
            b"",
            b"hello",
            b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
            b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            b"-----BEGIN PUBLIC KEY-----\n",
            public_pem(ec_key())[:-40],
            ec_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")),
            ec_key().private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()),
        ],
        ids=["empty", "text", "public", "private", "certificate", "begun", "cut", "encrypted", "openssh"],
    )
    def test_broken(self, pem: bytes) -> None:
        """
        The error for a broken PEM file is one line, and shows nothing of the file.
        """
        with pytest.raises(BadKey, match=r"^not a key in PEM format: .") as raised:
            pem_key(pem)
        text = str(raised.value)
        assert "\n" not in text
        assert not [line for line in pem.decode().splitlines() if len(line) > 30 and line in text]


class JwksTests:
    @pytest.mark.parametrize(
        ("given", "algorithms"),
        [
            (SECRET, HMAC),
            (rsa_key(), RSA),
            (ec_key(), ("ES256",)),
            (ec_key(ec.SECP384R1), ("ES384",)),
            (ec_key(ec.SECP521R1), ("ES512",)),
            (ed_key(), ("EdDSA",)),
        ],
        ids=["oct", "rsa", "p256", "p384", "p521", "ed25519"],
    )
    def test_kinds(self, given: Any, algorithms: tuple[str, ...]) -> None:
        """
        The kind of a JSON Web Key determines its algorithms, and its kid is kept.
        """
        (key,) = jwks_keys(jwks(jwk(given, kid="a")))
        assert (key.algorithms, key.id) == (algorithms, "a")
        assert key.material == (given.encode() if isinstance(given, str) else given.public_key())
        (nameless,) = jwks_keys(jwks(jwk(given)).encode())
        assert nameless.id is None

    @pytest.mark.parametrize("private", [rsa_key(), ec_key(), ed_key()], ids=["rsa", "ec", "okp"])
    def test_private(self, private: Any) -> None:
        """
        Of a private JSON Web Key, only the public half is used.
        """
        (key,) = jwks_keys(jwks(jwk(private, private=True)))
        assert key.material == private.public_key()
        assert key.private is None

    @pytest.mark.parametrize(
        ("given", "named", "algorithms"),
        [
            (SECRET, "HS512", ("HS512",)),
            (rsa_key(), "PS256", ("PS256",)),
            (rsa_key(), "RS384", ("RS384",)),
            (ec_key(), "ES256", ("ES256",)),
            (ed_key(), "EdDSA", ("EdDSA",)),
        ],
    )
    def test_algorithm(self, given: Any, named: str, algorithms: tuple[str, ...]) -> None:
        """
        A JSON Web Key with alg may be used with that algorithm only.
        """
        (key,) = jwks_keys(jwks(jwk(given, alg=named)))
        assert key.algorithms == algorithms

    @pytest.mark.parametrize(
        "entry",
        [
            jwk(rsa_key(), use="enc"),
            jwk(rsa_key(), use=None),
            jwk(rsa_key(), key_ops=["encrypt"]),
            jwk(rsa_key(), key_ops=[]),
            jwk(rsa_key(), private=True, key_ops=["sign"]),
            jwk(rsa_key(), alg="RSA-OAEP"),
            jwk(rsa_key(), alg="HS256"),
            jwk(rsa_key(), alg="none"),
            jwk(rsa_key(), alg=["RS256"]),
            jwk(rsa_key(), alg=7),
            jwk(rsa_key(bits=1024)),
            jwk(SECRET, alg="RS256"),
            jwk("x" * 31),
            jwk(ec_key(), alg="ES384"),
            jwk(ec_key(ec.SECP256K1)),
            jwk(ec_key(), crv="P-999"),
            jwk(ec_key(), x="AAAA"),
            jwk(ec_key(), x=None),
            jwk(ec_key(), kty="AKP"),
            jwk(ec_key(), kty="RSA"),
            jwk(ed_key(), crv="X25519"),
            jwk(ed_key(), crv=None),
            jwk(ed_key(), x="!"),
            {"kty": "oct"},
            {"kty": "oct", "k": 7},
            {"kty": ["oct"]},
            {"kty": "RSA", "n": "AQAB", "e": "AQAB"},
            {},
            [],
            "key",
            None,
            7,
        ],
    )
    def test_passed_over(self, entry: Any) -> None:
        """
        A JSON Web Key that is broken, unsupported or not for signatures is skipped; a set of only such keys
        is an error.
        """
        (key,) = jwks_keys(jwks(entry, jwk(ed_key(), kid="good"), entry))
        assert key.id == "good"
        with pytest.raises(BadKey, match="holds no key that can be used"):
            jwks_keys(jwks(entry))

    @pytest.mark.parametrize(
        "members",
        [{"use": "sig"}, {"key_ops": ["sign", "verify"]}, {"key_ops": "verify"}, {"x5c": ["AAAA"], "x": "y"}],
    )
    def test_for_signatures(self, members: dict[str, Any]) -> None:
        """
        A JSON Web Key that is for verifying is used, and unknown members are ignored.
        """
        assert len(jwks_keys(jwks({**members, **jwk(rsa_key())}))) == 1
        assert len(jwks_keys(jwks(jwk(rsa_key(), **{"y": "z", **members})))) == 1

    def test_name_that_is_no_text(self) -> None:
        """
        A JSON Web Key whose kid is not a string has no ID.
        """
        assert [key.id for key in jwks_keys(jwks(jwk(ed_key(), kid=7), jwk(ed_key(), kid=["a"])))] == [
            None
        ] * 2

    @pytest.mark.parametrize(
        "document",
        [
            "",
            "{",
            "null",
            "7",
            "[]",
            '"keys"',
            "{}",
            '{"keys": null}',
            '{"keys": {"a": {}}}',
            '{"keys": "abc"}',
            '{"keys": 7}',
            b"\xff\xfe\xff",
            '{"keys": ' + "[" * 100_000,
            '{"keys": ' + "9" * 5000 + "}",
            pytest.param(json.dumps(jwk(ed_key())), id="a key without a set"),
        ],
    )
    def test_no_set(self, document: str | bytes) -> None:
        """
        A document that is not a key set is refused with a description of one.
        """
        with pytest.raises(BadKey, match="not a JSON Web Key Set, which is an object with a list named keys"):
            jwks_keys(document)

    def test_deep_entry(self) -> None:
        """
        Unknown members of a JSON Web Key may be deeply nested.
        """
        (key,) = jwks_keys(jwks(jwk(ed_key(), x5c=json.loads("[" * 200 + "]" * 200))))
        assert key.algorithms == ("EdDSA",)


class FileTests:
    @pytest.mark.parametrize("ending", ["", "\n", "\r\n", "\n\n"])
    def test_secret(self, tmp_path: Path, ending: str) -> None:
        """
        A key file may hold a secret on a single line, whose line end is not part of the secret.
        """
        path = tmp_path / "key"
        path.write_bytes((SECRET + ending).encode())
        (key,) = read_key(path)
        assert key == secret_key(SECRET)

    def test_spaces_are_part_of_the_secret(self, tmp_path: Path) -> None:
        """
        Spaces around the secret in a key file are part of the secret.
        """
        path = tmp_path / "key"
        path.write_bytes(b" " + b"x" * 32 + b" \n")
        (key,) = read_key(path)
        assert key.material == b" " + b"x" * 32 + b" "

    def test_pem(self, tmp_path: Path) -> None:
        """
        A key file with a PEM header anywhere is read as PEM.
        """
        path = tmp_path / "key.pem"
        for content in (public_pem(ec_key()), b"a comment\n" + private_pem(ec_key())):
            path.write_bytes(content)
            (key,) = read_key(path)
            assert key.material == ec_key().public_key()

    def test_jwks(self, tmp_path: Path) -> None:
        """
        A key file with a JSON object is read as a JSON Web Key Set.
        """
        path = tmp_path / "keys.json"
        path.write_text("\n " + jwks(jwk(ec_key(), kid="a"), jwk(ed_key(), kid="b")))
        assert [key.id for key in read_key(path)] == ["a", "b"]

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (b"", "a secret needs at least 32 bytes, and this one has 0"),
            (b"hush-hush\n", "a secret needs at least 32 bytes, and this one has 9"),
            (b'{"hush-hush": ', "not a JSON Web Key Set"),
            (jwks(jwk("hush-hush")).encode(), "holds no key that can be used"),
            (b"-----BEGIN hush-hush-----", "not a key in PEM format"),
            (b"ssh-rsa AAAA" + b"hush-hush" * 4, "it is an SSH key; convert it to PEM"),
        ],
    )
    def test_bad(self, tmp_path: Path, content: bytes, reason: str) -> None:
        """
        The error for a bad key file names the file and the reason, and shows nothing of its content.
        """
        path = tmp_path / "key"
        path.write_bytes(content)
        with pytest.raises(BadKey) as raised:
            read_key(path)
        text = str(raised.value)
        assert text.startswith(f"{path}: ")
        assert reason in text
        assert "hush" not in text.removeprefix(str(path))

    def test_missing(self, tmp_path: Path) -> None:
        """
        The error for a key file that cannot be read has the system's reason.
        """
        path = tmp_path / "key"
        with pytest.raises(BadKey, match=r"^cannot read .*/key \(No such file or directory\)$"):
            read_key(path)
        with pytest.raises(BadKey, match=r"\(Is a directory\)$"):
            read_key(tmp_path)
