"""
Tests of the recognition of key material, so that only real secrets are used as secrets.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from functools import cache
from itertools import count
from pathlib import Path
from string import ascii_letters, digits, punctuation
from typing import Any
from urllib.parse import quote

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, rsa, x25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_public_key,
)
from cryptography.hazmat.primitives.serialization.pkcs12 import serialize_key_and_certificates
from cryptography.x509 import load_pem_x509_certificate
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from tests.mercure.auth.test_keys import certificate
from tests.mercure.signers import ec_key, ed_key, jwk, jwks, private_pem, public_pem, rsa_key
from tests.mercure.world import SECRET, URL, sign
from txsse.cli.key_options import InvalidOption, read_keys
from txsse.mercure.auth.key_material import recognise
from txsse.mercure.auth.keys import BadKey, jwks_keys, read_key, secret_key
from txsse.mercure.auth.verify import shared_secret

SPKI = PublicFormat.SubjectPublicKeyInfo
DSA = dsa.generate_private_key(1024)
OTHERS = (ec_key(ec.SECP256K1), ec_key(ec.SECP224R1), ed448.Ed448PrivateKey.generate(), DSA)
PRIVATE = (
    rsa_key(),
    rsa_key(bits=1024),
    ec_key(),
    ec_key(ec.SECP384R1),
    ec_key(ec.SECP521R1),
    ed_key(),
    x25519.X25519PrivateKey.generate(),
    *OTHERS,
)


@cache
def binary() -> Mapping[str, bytes]:
    """
    Return keys of all kinds in binary formats, by name.
    """
    made: dict[str, bytes] = {}
    key: Any
    for number, key in enumerate(PRIVATE):
        name = f"{type(key).__name__} {number}"
        public = key.public_key()
        made[f"{name} SPKI"] = public.public_bytes(Encoding.DER, SPKI)
        made[f"{name} PKCS8"] = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        made[f"{name} encrypted"] = key.private_bytes(
            Encoding.DER, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")
        )
        if isinstance(key, rsa.RSAPrivateKey):
            made[f"{name} PKCS1"] = public.public_bytes(Encoding.DER, PublicFormat.PKCS1)
        if isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | dsa.DSAPrivateKey):
            made[f"{name} traditional"] = key.private_bytes(
                Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption()
            )
    for key in (ec_key(), ec_key(ec.SECP384R1), ec_key(ec.SECP521R1), ec_key(ec.SECP256K1)):
        made[f"{key.curve.name} point"] = key.public_key().public_bytes(
            Encoding.X962, PublicFormat.UncompressedPoint
        )
    for key in (rsa_key(), ec_key(), ed_key()):
        name = type(key).__name__
        line = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
        made[f"{name} SSH blob"] = base64.b64decode(line.split()[1])
    own = load_pem_x509_certificate(certificate(ec_key()))
    made["certificate"] = own.public_bytes(Encoding.DER)
    made["PKCS12"] = serialize_key_and_certificates(b"a", rsa_key(), None, None, NoEncryption())
    made["OpenPGP"] = (
        b"\x99\x01\x0d\x04\x5f\x00\x00\x00\x01\x08\x00" + b"\xc5" * 256 + b"\x00\x11\x01\x00\x01"
    )
    return made


@cache
def text() -> Mapping[str, bytes]:
    """
    Return keys of all kinds in text formats, by name.
    """
    made: dict[str, bytes] = {}
    key: Any
    for number, key in enumerate(PRIVATE):
        name = f"{type(key).__name__} {number}"
        made[f"{name} public"] = public_pem(key)
        made[f"{name} private"] = private_pem(key)
    for key in (rsa_key(), ec_key(), ed_key()):
        name = type(key).__name__
        line = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
        made[f"{name} SSH"] = line + b" me@example"
        made[f"{name} authorized"] = b'command="x" ' + line
        made[f"{name} RFC 4716"] = (
            b'---- BEGIN SSH2 PUBLIC KEY ----\nComment: "x"\n'
            + folded(line.split()[1])
            + b"\n---- END SSH2 PUBLIC KEY ----\n"
        )
        ssh = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
        made[f"{name} OpenSSH"] = ssh
        made[f"{name} OpenSSH without armour"] = body(ssh)
        for private in (False, True):
            written = jwk(key, private=private)
            made[f"{name} JWK {private}"] = json.dumps(written).encode()
            made[f"{name} JWKS {private}"] = jwks(written).encode()
            made[f"{name} JWKS cut {private}"] = jwks(written).encode()[:-20]
    made["certificate"] = certificate(rsa_key())
    made["oct"] = json.dumps(jwk(SECRET)).encode()
    made["token"] = sign({"aud": URL}).encode()
    made["bearer"] = b"Bearer " + made["token"]
    made["deep"] = b'{"a": ' * 100_000
    made["XML"] = b"<RSAKeyValue><Modulus>" + b"xA" * 100 + b"</Modulus></RSAKeyValue>"
    made["PGP"] = b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmQENBF\n-----END PGP PUBLIC KEY BLOCK-----\n"
    pkcs1 = rsa_key().public_key().public_bytes(Encoding.PEM, PublicFormat.PKCS1)
    made["PKCS1"] = pkcs1
    made["smart dashes"] = public_pem(ec_key()).replace(b"-----", "—–".encode())
    made["without the first line"] = public_pem(rsa_key()).split(b"\n", 1)[1]
    return made


def body(pem: bytes) -> bytes:
    return b"\n".join(line for line in pem.splitlines() if b"--" not in line)


def folded(line: bytes, end: bytes = b"\n") -> bytes:
    return end.join(line[at : at + 64] for at in range(0, len(line), 64))


# The encodings of bytes as text.
WRITINGS: Mapping[str, Callable[[bytes], bytes]] = {
    "base64": base64.b64encode,
    "without padding": lambda given: base64.b64encode(given).rstrip(b"="),
    "base64url": lambda given: base64.urlsafe_b64encode(given).rstrip(b"="),
    "in lines": lambda given: folded(base64.b64encode(given)),
    "in lines with CR LF": lambda given: folded(base64.b64encode(given), b"\r\n"),
    "in escaped lines": lambda given: folded(base64.b64encode(given), b"\\n"),
    "in words": lambda given: folded(base64.b64encode(given), b" "),
    "hex": lambda given: given.hex().encode(),
    "HEX": lambda given: given.hex().upper().encode(),
    "with colons": lambda given: given.hex(":").encode(),
    "as a C array": lambda given: ", ".join(f"0x{each:02x}" for each in given).encode(),
    "base64 of hex": lambda given: base64.b64encode(given.hex().encode()),
    "base64 twice": lambda given: base64.b64encode(base64.b64encode(given)),
    "percent-encoded": lambda given: quote(base64.b64encode(given), safe="").encode(),
}

# The changes that a text may undergo on its way to the hub.
DISGUISES: Mapping[str, Callable[[bytes], bytes]] = {
    "as it is": lambda given: given,
    "UTF-8 BOM": lambda given: b"\xef\xbb\xbf" + given,
    "UTF-16 LE": lambda given: b"\xff\xfe" + given.decode().encode("utf-16-le"),
    "UTF-16 BE": lambda given: b"\xfe\xff" + given.decode().encode("utf-16-be"),
    "UTF-16 without BOM": lambda given: given.decode().encode("utf-16-le"),
    "NUL before": lambda given: b"\0" + given,
    "NUL after": lambda given: given + b"\0",
    "NUL and BOM": lambda given: b"\0\xef\xbb\xbf" + given,
    "CR": lambda given: given.replace(b"\n", b"\r"),
    "CR LF": lambda given: given.replace(b"\n", b"\r\n"),
    "blanks": lambda given: b" \t\n " + given + b" \n\n",
    "quotes": lambda given: b'"' + given + b'"\n',
    "other quotes": lambda given: b" '" + given + b"'",
    "as a variable": lambda given: b"export KEY=" + given,
    "with a comment": lambda given: b"# my key\n" + given + b" # of 2026",
    "base64": base64.b64encode,
    "hex": lambda given: given.hex().encode(),
}

# JSON is recognised only without text around it, and UTF-16 is decoded only once.
ENCODED = st.one_of(
    st.tuples(
        st.sampled_from(sorted(binary())).map(binary().__getitem__),
        st.sampled_from(sorted(WRITINGS)).map(WRITINGS.__getitem__),
    ).map(lambda drawn: drawn[1](drawn[0])),
    st.sampled_from(sorted(text())).map(text().__getitem__),
)


class RecognisedTests:
    @pytest.mark.slow
    @pytest.mark.parametrize("name", sorted(binary()))
    def test_binary(self, name: str) -> None:
        """
        A key in a binary format is recognised, also with a line end around it, and truncated.
        """
        content = binary()[name]
        for each in (content, content + b"\n", b"\n" + content):
            assert recognise(each) is not None
            with pytest.raises(BadKey):
                secret_key(each)
        if len(content) > 70 and "point" not in name:
            assert recognise(content[:-5]) is not None

    @pytest.mark.parametrize("end", [b"\n", b" ", b'"', b"\0"])
    def test_binary_that_ends_like_text(self, end: bytes) -> None:
        """
        A binary key whose last byte looks like white space or a quote is recognised as that key.
        """
        keys = (ec.derive_private_key(n, ec.SECP256R1()).public_key() for n in range(1, 10_000))
        writings = (
            (
                key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint),
                key.public_bytes(Encoding.DER, SPKI),
            )
            for key in keys
        )
        point, der = next(each for each in writings if each[0].endswith(end))
        for each in (point, b"\n" + point, point + b"\n"):
            assert recognise(each) is not None
        for each in (der, b"\n" + der, base64.b64encode(der)):
            found = recognise(each)
            assert found is not None
            assert found.what.startswith("a public key in DER format")

    @pytest.mark.parametrize("name", sorted(text()))
    def test_text(self, name: str) -> None:
        """
        A key in a text format is recognised.
        """
        assert recognise(text()[name]) is not None

    @pytest.mark.slow
    @pytest.mark.parametrize("writing", sorted(WRITINGS))
    def test_written(self, writing: str) -> None:
        """
        A binary key is recognised in every text encoding.
        """
        for content in binary().values():
            assert recognise(WRITINGS[writing](content)) is not None

    @pytest.mark.parametrize("disguise", sorted(DISGUISES))
    def test_disguised(self, disguise: str) -> None:
        """
        A key in text is recognised, whatever surrounds it and however the text is encoded.
        """
        point = binary()["secp256r1 point"]
        for content in (
            *text().values(),
            *(write(point) for write in WRITINGS.values()),
            folded(base64.b64encode(binary()["certificate"])),
        ):
            assert len(content) > 100_000 or recognise(DISGUISES[disguise](content)) is not None

    @given(key=ENCODED, disguises=st.lists(st.sampled_from(sorted(DISGUISES)), max_size=2))
    @settings(max_examples=200, deadline=None, derandomize=True)
    def test_any(self, key: bytes, disguises: list[str]) -> None:
        """
        No key of any kind, in any encoding and disguise, is accepted as a secret.
        """
        assume(sum("UTF-16" in each for each in disguises) < 2)
        for each in disguises:
            if "UTF-16" in each:
                try:
                    key.decode()
                except UnicodeDecodeError:
                    assume(False)
            key = DISGUISES[each](key)
        assume(len(key) < 8192)
        with pytest.raises(BadKey):
            secret_key(key)

    @pytest.mark.parametrize("kind", ["p256", "rsa"])
    def test_not_in_the_environment(self, kind: str) -> None:
        """
        A public key without its armour lines is refused wherever a secret is read, and not shown in the
        error.
        """
        written = body(public_pem({"p256": ec_key(), "rsa": rsa_key()}[kind])).decode()
        for read in (
            lambda: shared_secret(written),
            lambda: shared_secret(SECRET, subscribe=written),
            lambda: read_keys(None, {"TXSSE_KEY": written}),
        ):
            with pytest.raises(
                (BadKey, InvalidOption), match="a public key in DER format, encoded"
            ) as raised:
                read()
            assert written[:20] not in str(raised.value)

    def test_not_in_a_set(self) -> None:
        """
        A symmetric JSON Web Key whose value is a public key is skipped.
        """
        der = load_pem_public_key(public_pem(ec_key())).public_bytes(Encoding.DER, SPKI)
        for value in (der, base64.b64encode(der), public_pem(ec_key())):
            with pytest.raises(BadKey, match="holds no key that can be used"):
                jwks_keys(jwks(jwk(value)))


class FileTests:
    @pytest.mark.parametrize(
        "disguise", ["UTF-8 BOM", "UTF-16 LE", "UTF-16 BE", "NUL before", "CR LF", "blanks", "quotes"]
    )
    def test_used(self, tmp_path: Path, disguise: str) -> None:
        """
        A key file with PEM or a JSON Web Key Set is read, whatever surrounds its content.
        """
        path = tmp_path / "key"
        for content in (public_pem(ec_key()), jwks(jwk(ec_key())).encode()):
            path.write_bytes(DISGUISES[disguise](content))
            (key,) = read_key(path)
            assert (key.algorithms, key.material) == (("ES256",), ec_key().public_key())

    def test_set_with_foreign_letters(self, tmp_path: Path) -> None:
        """
        A JSON Web Key Set in UTF-16 is read with all of its characters.
        """
        path = tmp_path / "key"
        written = json.dumps({"keys": [jwk(ec_key(), kid="ключ")]}, ensure_ascii=False)
        path.write_bytes(written.encode("utf-16"))
        (key,) = read_key(path)
        assert key.id == "ключ"

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            (binary()["certificate"], "it is a certificate in DER format; convert it to PEM"),
            (base64.b64encode(binary()["certificate"]), "encoded in base64; convert it to PEM"),
            (base64.b64encode(public_pem(ec_key())), "it is a PEM file, encoded in base64; decode it"),
            (next(text()[name] for name in text() if name.endswith(" SSH")), "an SSH key; convert"),
            (text()["token"], "it is a JSON Web Token; use the key that signs tokens"),
            (text()["PGP"], "it is an OpenPGP key; convert it to PEM"),
            (text()["XML"], "it is a key in XML; convert it to PEM"),
            (binary()["secp256r1 point"], "a public key, as a point on an elliptic curve; convert"),
            (b"\xef\xbb\xbf" + SECRET.encode(), "text after a byte order mark; save it as UTF-8"),
            (("x" * 40).encode("utf-16"), "text in UTF-16; save it as UTF-8"),
            ("\ufeff".encode("utf-16-le"), "text in UTF-16; save it as UTF-8"),
        ],
        # The contents are random.
        ids=count(),
    )
    def test_refused(self, tmp_path: Path, content: bytes, said: str) -> None:
        """
        A key file in another format is refused with one sentence that names the format and the remedy.
        """
        path = tmp_path / "key"
        path.write_bytes(content)
        with pytest.raises(BadKey) as raised:
            read_key(path)
        text = str(raised.value)
        assert text.startswith(f"{path}: it is ") and said in text
        assert "\n" not in text and len(text) < 200 + len(str(path))


class SecretTests:
    @given(secret=st.binary(min_size=32, max_size=96))
    @settings(max_examples=200, deadline=None, derandomize=True)
    @example(b"\x04" + bytes(64))
    @example(b"\xef\xbb\xbf" + b"\xff" * 32)
    @example(b"\xff\xfe" + b"\x90" * 31)
    @example(b"\0" * 32)
    @example(b"{" + b"\x80" * 32)
    def test_bytes(self, secret: bytes) -> None:
        """
        Random bytes, and their base64 and hexadecimal forms, are accepted as secrets and not changed.
        """
        for written in (
            secret,
            base64.b64encode(secret),
            base64.urlsafe_b64encode(secret).rstrip(b"="),
            secret.hex().encode(),
            secret.hex(":").encode(),
        ):
            assert secret_key(written).material == written

    def test_encoded_again_and_again(self) -> None:
        """
        A secret with more levels of encoding than the recognition searches is accepted.
        """
        secret = SECRET.encode()
        for _ in range(6):
            secret = base64.b64encode(secret)
            assert secret_key(secret).material == secret

    @given(secret=st.text(st.characters(exclude_categories=["C", "Z"]), min_size=32, max_size=80))
    @settings(max_examples=200, deadline=None, derandomize=True)
    def test_text(self, secret: str) -> None:
        """
        A secret of random characters of any script is accepted.
        """
        assert secret_key(secret).material == secret.encode()

    @given(secret=st.text(ascii_letters + digits + punctuation + " ", min_size=32, max_size=80))
    @settings(max_examples=200, deadline=None, derandomize=True)
    @example('{"' + "x" * 40)
    @example("{correct horse battery staple, and more}")
    @example("[" + "1" * 40)
    @example("1" * 40)
    @example('"' + "x" * 40 + '"')
    @example("%41" * 12)
    @example("-- " * 12)
    @example("my ssh-rsa key was AAAA long ago, and BEGIN it did")
    @example("eyJ" + "a" * 20 + "." + "b" * 20 + ".c")
    @example("MA" * 20)
    @example("30" * 40)
    @example("AAAA" * 20)
    def test_passphrases(self, secret: str) -> None:
        """
        Passphrases from people and password managers are accepted as secrets.
        """
        assert secret_key(secret).material == secret.encode()
