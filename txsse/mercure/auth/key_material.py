"""
Recognises key material: PEM, DER, SSH, JSON Web Keys and tokens, in any encoding.

Strategy: a secret has no format of its own, so content counts as a secret only if nothing else is recognised.
If a public key were used as a secret, every client could sign tokens. :func:`recognise` therefore examines
the content, and everything that it decodes to by base64, hexadecimal or percent-encoding, nested up to
:data:`_MAX_DEPTH`. Each signature that it searches for has at least 36 bits, at a fixed offset or within text
only, so that no random secret has one by accident.

Sources: https://www.rfc-editor.org/rfc/rfc7468 (PEM), https://www.rfc-editor.org/rfc/rfc5280#section-4.1
(SubjectPublicKeyInfo), https://www.rfc-editor.org/rfc/rfc4253#section-6.6 (SSH),
https://www.rfc-editor.org/rfc/rfc7517 (JSON Web Keys)
"""

from __future__ import annotations

import json
import re
from base64 import b64decode
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote_to_bytes

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_private_key, load_der_public_key
from cryptography.x509 import load_der_x509_certificate

__all__ = ["Material", "recognise"]

# Deployment tools encode a key that is in base64 or hexadecimal in base64 once more, and rarely twice.
_MAX_DEPTH = 4

# How many bytes of the content are searched for encoded keys. The largest keys in use, RSA with 16384 bits,
# take 13 KB.
_MAX_SEARCHED = 16384

# The headers of RFC 7468, OpenSSH, OpenPGP and RFC 4716. Two dashes are enough: some get lost.
_PEM = re.compile(rb"-{2,} ?(?:BEGIN|END) ")
_PGP = re.compile(rb"-{2,} ?(?:BEGIN|END) PGP ")
_SSH2 = re.compile(rb"-{2,} ?(?:BEGIN|END) SSH2 ")

# A line of authorized_keys, and the binary form within it.
_SSH_NAME = rb"(?:ssh-[a-z0-9-]{3,}|ecdsa-sha2-[a-z0-9-]+|sk-(?:ssh|ecdsa)-[a-z0-9-]+|rsa-sha2-[0-9]+)"
_SSH_LINE = re.compile(_SSH_NAME + rb"[@a-z0-9.-]* +[\"']?AAAA")
_SSH_BLOB = re.compile(rb"(?:\A|\0)[\x07-\x40]?" + _SSH_NAME + rb"\0\0|openssh-key-v1\0")

# The prefixes of the object identifiers of key algorithms, their encryption and signatures: PKCS (RSA, PBES2,
# PKCS #7 and #12), ANSI X9 (EC, DSA), SECG, NIST, and RFC 8410 with its whole AlgorithmIdentifier, as it is
# short. They are also found in a file that is truncated or has trailing bytes.
_DER = re.compile(
    rb"\x06[\x08-\x0b]\x2a\x86\x48\x86\xf7\x0d\x01"
    rb"|\x06[\x05-\x09]\x2a\x86\x48\xce[\x38\x3d]"
    rb"|\x06\x05\x2b\x81\x04\x00"
    rb"|\x06[\x08\x09]\x60\x86\x48\x01\x65\x03\x04"
    rb"|\x30\x05\x06\x03\x2b\x65[\x6e-\x71]"
)

# The beginnings of PKCS #1 and SEC 1, which name no algorithm: a version and a number, or a modulus.
_BARE_DER = re.compile(
    rb"\x30(?:[\x20-\x7f]|\x81.|\x82..)\x02\x01[\0\1](?:\x02[\x40-\x7f]|\x02[\x81\x82]|\x04[\x1c-\x42])"
    rb"|\x30\x81.\x02\x81.\0[\x80-\xff]"
    rb"|\x30\x82[\0-\x0f].\x02\x82[\0-\x0f].\0[\x80-\xff]",
    re.DOTALL,
)

# Binary OpenPGP: the beginning of an RSA key of version 4, which takes at least 140 bytes; or the identifier
# of Ed25519, P-256, P-384 or P-521.
_BINARY_PGP = re.compile(
    rb"\A[\x94-\x9b\xc5-\xc7].{1,5}\x04.{4}\x01[\x04\x08\x0c\x10]\0(?=.{128})"
    rb"|\x09\x2b\x06\x01\x04\x01\xda\x47\x0f\x01"
    rb"|[\x13\x16]\x08\x2a\x86\x48\xce\x3d\x03\x01\x07|[\x13\x16]\x05\x2b\x81\x04\0",
    re.DOTALL,
)

# A member of JSON Web Keys and their sets; and the beginning of an object that may be truncated.
_JWK_MEMBER = re.compile(rb"[\"'](?:kty|keys)[\"']\s*:")
_JSON_BEGINS = re.compile(r"[\[{\s]*\{\s*[\"'][A-Za-z0-9_#:/.-]+[\"']\s*:")

# The XML format of .NET.
_XML = re.compile(rb"<(?:RSA|DSA|ECDSA|EC)KeyValue[ >]")

_TOKEN = re.compile(rb"(?:^|[^A-Za-z0-9_-])(eyJ[A-Za-z0-9_-]{8,})\.[A-Za-z0-9_-]*\.[A-Za-z0-9_.-]*")

_BASE64 = rb"[A-Za-z0-9+/_-]"

# A run of an encoding; and the beginnings of DER, SSH and PEM within a run, since words before the key join
# the run when the white space in between is removed. The algorithm's name is near the beginning.
_BASE64_RUN = re.compile(_BASE64 + rb"{40,}")
_BASE64_BEGIN = re.compile(rb"(?=((?:M[A-P]|AAAA[A-Z]|b3BlbnNz|LS0t|B[A-P])" + _BASE64 + rb"{38,510}))")
_PERCENT = re.compile(rb"%[0-9A-Fa-f]{2}")
_HEX_RUN = re.compile(rb"(?:[0-9A-Fa-f]{2}){32,}")
_HEX_BEGIN = re.compile(rb"(?=(30(?:[0-9A-Fa-f]{2}){32,256}))")

# The separators between the pieces of a body: white space, plain or escaped, and quotes; in hexadecimal also
# the prefixes and separators of single bytes.
_BETWEEN = re.compile(rb"\\[nrt]|[\s\\\"'`\0]+")
_BETWEEN_HEX = re.compile(rb"0x|\\x|[\s\\\"':,;\0]+")

_BOMS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")
_PRINTABLE = rb"[\t\r\n -~]"
_UTF16 = re.compile(
    rb"(?:\xff\xfe)?(?:" + _PRINTABLE + rb"\0)+|(?:\xfe\xff)?(?:\0" + _PRINTABLE + rb")+|\xff\xfe|\xfe\xff"
)

# The characters that may surround a key.
_AROUND = b" \t\r\n\f\v\0\"'`"

# Each curve with the length of an uncompressed point, in bytes.
_CURVES = ((ec.SECP256R1(), 65), (ec.SECP256K1(), 65), (ec.SECP384R1(), 97), (ec.SECP521R1(), 133))

_DER_KINDS: tuple[tuple[str, Callable[[bytes], object]], ...] = (
    ("a public key", load_der_public_key),
    ("a private key", lambda content: load_der_private_key(content, None)),
    ("a certificate", load_der_x509_certificate),
)

_CONVERT = "convert it to PEM"


@dataclass(frozen=True)
class Material:
    """
    Key material that was recognised.

    :ivar what: its name, for error messages.
    :ivar advice: how to correct it, as an imperative.
    :ivar form: the format of :attr:`text`; ``None`` if txsse does not read the format.
    :ivar text: the content without a byte order mark, or quotes and white space around it.
    """

    what: str
    advice: str = _CONVERT
    form: Literal["pem", "json"] | None = None
    text: bytes = b""


# Content that begins like DER, but cannot be loaded.
_BROKEN_DER = Material("a key or certificate in DER format")


def recognise(content: bytes) -> Material | None:
    """
    Return the kind of key material that a content is.

    :param content: the content of a file, of an environment variable or of a member of a JSON Web Key.
    :returns: the kind; ``None`` if the content can only be a secret.
    """
    found = _recognise_plain(content)
    if found is not None:
        return found
    searched = content[:_MAX_SEARCHED]
    for decoded, name in _decodings(searched, _MAX_DEPTH):
        found = _recognise_plain(decoded)
        if found is not None:
            advice = found.advice if found.form is None else "decode it"
            return Material(f"{found.what}, encoded in {name}", advice)
    return _recognise_text(content)


def _recognise_plain(content: bytes) -> Material | None:
    """
    Recognise content that is not encoded, whatever white space, quotes or byte order mark surround it.
    """
    broken = None
    for view in _views(content):
        found = _recognise_one(view)
        if found is not None and found is not _BROKEN_DER:
            return found
        # If the last byte of a key looks like a space, another view has the whole key.
        broken = broken or found
    return broken


def _recognise_one(content: bytes) -> Material | None:
    if _PGP.search(content) or _BINARY_PGP.search(content):
        return Material("an OpenPGP key")
    if _SSH2.search(content) or _SSH_LINE.search(content) or _SSH_BLOB.search(content):
        return Material("an SSH key")
    if _PEM.search(content):
        return Material("a PEM file", form="pem", text=content)
    token = _TOKEN.search(content)
    if token is not None and isinstance(_parse_json(_decode_base64(token[1])), dict):
        return Material("a JSON Web Token", "use the key that signs tokens, not a token")
    if isinstance(_parse_json(content), (dict, list)) or _is_broken_json(content):
        return Material("a JSON document, such as a JSON Web Key", form="json", text=content)
    if _XML.search(content):
        return Material("a key in XML")
    return _recognise_binary(content)


def _recognise_binary(content: bytes) -> Material | None:
    for name, load in _DER_KINDS:
        try:
            load(content)
        except (ValueError, UnsupportedAlgorithm):
            continue
        except TypeError:
            # The key is encrypted.
            pass
        return Material(f"{name} in DER format")
    if _DER.search(content) or _BARE_DER.match(content):
        return _BROKEN_DER
    if content[:1] == b"\x04":
        for curve, length in _CURVES:
            try:
                ec.EllipticCurvePublicKey.from_encoded_point(curve, content[:length])
            except ValueError:
                continue
            return Material("a public key, as a point on an elliptic curve")
    return None


def _recognise_text(content: bytes) -> Material | None:
    """
    Recognise text with invisible bytes, such as a byte order mark.

    Other programs may omit these bytes from the secret.
    """
    if _UTF16.fullmatch(content):
        return Material("text in UTF-16", "save it as UTF-8, without a byte order mark")
    if content.startswith(_BOMS[0]) and _to_text(content) is not None:
        return Material("text after a byte order mark", "save it as UTF-8, without a byte order mark")
    return None


def _views(content: bytes) -> Iterator[bytes]:
    """
    Yield the content without the characters that may surround it, and as it is.
    """
    bare = _strip(content)
    yield bare
    if content.lstrip(b"\0")[:2] in _BOMS:
        yield _strip(content.lstrip(b"\0").decode("utf-16", "replace").encode())
    if b"\0" in bare:
        # Text in UTF-16 whose relevant characters are ASCII.
        yield _strip(bare.replace(b"\0", b""))
    # The last bytes of a binary key may look like white space.
    left_stripped = content.lstrip(_AROUND)
    if left_stripped not in (bare, content):
        yield left_stripped
    if bare != content:
        yield content


def _strip(content: bytes) -> bytes:
    while True:
        stripped = content.strip(_AROUND)
        for bom in _BOMS:
            stripped = stripped.removeprefix(bom)
        if stripped == content:
            return content
        content = stripped


def _decodings(content: bytes, depth: int) -> Iterator[tuple[bytes, str]]:
    """
    Yield everything that the content may be an encoding of, with the name of the encoding.
    """
    bare = _strip(content).replace(b"\0", b"")
    hexadecimal, base64 = _BETWEEN_HEX.sub(b"", bare), _BETWEEN.sub(b"", bare)
    runs = [
        *((bytes.fromhex(run.decode()), "hexadecimal") for run in _find(_HEX_RUN, hexadecimal, bare)),
        *((_decode_base64(run), "base64") for run in _find(_BASE64_RUN, base64, bare)),
    ]
    if _PERCENT.search(content):
        runs.append((unquote_to_bytes(content), "percent-encoding"))
    yield from runs
    yield from ((bytes.fromhex(run.decode()), "hexadecimal") for run in _find(_HEX_BEGIN, hexadecimal))
    yield from ((_decode_base64(run), "base64") for run in _find(_BASE64_BEGIN, base64))
    if depth > 1:
        for decoded, name in runs:
            for inner, _ in _decodings(decoded, depth - 1):
                yield inner, name


def _find(pattern: re.Pattern[bytes], *texts: bytes) -> Iterable[bytes]:
    return dict.fromkeys(run for text in texts for run in pattern.findall(text))


def _decode_base64(text: bytes) -> bytes:
    """
    Decode a run of either base64 alphabet; an incomplete last group is dropped.
    """
    plain = text.translate(bytes.maketrans(b"-_", b"+/"))
    # A single character after the last group of four does not make a byte.
    plain = plain[: len(plain) - (len(plain) % 4 == 1)]
    return b64decode(plain + b"=" * (-len(plain) % 4))


def _parse_json(content: bytes) -> object:
    try:
        return json.loads(content, parse_int=float)
    except RecursionError:
        # The document is nested more deeply than Python reads, so it is a container.
        return []
    except ValueError:
        return None


def _is_broken_json(content: bytes) -> bool:
    if _JWK_MEMBER.search(content):
        return True
    text = _to_text(content)
    return text is not None and _JSON_BEGINS.match(text) is not None


def _to_text(content: bytes) -> str | None:
    """
    Return the content as printable text; ``None`` if it is not UTF-8 or has control characters.
    """
    try:
        text = content.decode()
    except ValueError:
        return None
    return text if all(each.isprintable() or each in "\t\r\n\ufeff" for each in text) else None
