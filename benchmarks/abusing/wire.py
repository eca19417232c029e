"""
The bytes that attackers send: HTTP/1.1 requests, HTTP/2 frames, certificates, tokens, floods.
"""

from __future__ import annotations

import socket
import ssl
import struct
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import hpack
import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

HOST = "hub.example"
HUB = "/.well-known/mercure"
URL = f"http://{HOST}{HUB}"
FORM = {"content-type": "application/x-www-form-urlencoded"}

KIB, MIB = 1024, 1024 * 1024

# https://www.rfc-editor.org/rfc/rfc9113#section-6
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _GOAWAY = 0, 1, 3, 4, 7
_END_STREAM, _END_HEADERS = 1, 4
_CANCEL = 8
_INITIAL_WINDOW_SIZE = 4
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def make_certificate(file: Path) -> None:
    """
    Write a private key and a self-signed certificate to a file.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(pem + certificate.public_bytes(serialization.Encoding.PEM))


def make_token(key: str, action: str, topics: Iterable[dict[str, str]] = ({"match": "*"},)) -> str:
    """
    Make a token that is valid for an hour.

    :param action: ``publish`` or ``subscribe``.
    :param topics: the matchers that it grants.
    """
    detail = {
        "type": "https://mercure.rocks/authorization-detail",
        "actions": [action],
        "topics": list(topics),
    }
    claims = {"aud": URL, "exp": int(time.time()) + 3600, "authorization_details": [detail]}
    return jwt.encode(claims, key, "HS256", headers={"typ": "at+jwt"})


def bearer(token: str) -> dict[str, str]:
    """
    Return the header field for a token; empty without a token.
    """
    return {"authorization": f"Bearer {token}"} if token else {}


def request(
    method: str, target: str, fields: dict[str, str] | None = None, body: bytes | None = None
) -> bytes:
    """
    Return an HTTP/1.1 request.

    :param body: the body, whose length is added to the head; ``None`` for no body.
    """
    all_fields = {"host": HOST, **(fields or {})}
    if body is not None:
        all_fields["content-length"] = str(len(body))
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in all_fields.items())]
    return "\r\n".join([*lines, "", ""]).encode() + (body or b"")


@dataclass(frozen=True)
class Answer:
    """
    A response.

    :ivar status: the status; 0 if the connection ended without a response.
    """

    status: int
    body: bytes = b""


NO_ANSWER = Answer(0)


def read_answer(connection: socket.socket) -> Answer:
    """
    Read a response; of a stream, only its head.
    """
    data = b""
    with suppress(OSError):
        while b"\r\n\r\n" not in data:
            more = connection.recv(65536)
            if not more:
                return NO_ANSWER
            data += more
        head, _, body = data.partition(b"\r\n\r\n")
        length = head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]
        while length and len(body) < int(length):
            more = connection.recv(65536)
            if not more:
                break
            body += more
        return Answer(int(head.split(b" ", 2)[1]), body)
    return NO_ANSWER


def flood(connection: socket.socket, block: bytes, size: int, *, seconds: float = 5.0) -> int:
    """
    Send a block repeatedly.

    :param size: how many bytes to send in all.
    :param seconds: the time limit.
    :returns: how many bytes were sent before the service closed the connection, or read nothing for 2 s.
    """
    sent = 0
    until = time.monotonic() + seconds
    connection.settimeout(2.0)
    view = memoryview(block)
    with suppress(OSError):
        while sent < size and time.monotonic() < until:
            offset = sent % len(block)
            sent += connection.send(view[offset : offset + size - sent])
    return sent


def reset(connection: socket.socket) -> None:
    """
    Close a connection with a RST packet, if its transport has them.
    """
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    if isinstance(connection, ssl.SSLSocket):
        # Without TLS's close_notify.
        socket.socket(fileno=connection.detach()).close()
    else:
        connection.close()


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """
    Return an HTTP/2 frame.
    """
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


#: DATA on stream 0, which is a connection error.
BAD_FRAME = frame(_DATA, 0, 0, b"x")


class Http2:
    """
    The client's side of an HTTP/2 connection. It enforces no rules of the protocol.

    :param connection: the connection, on which ALPN has negotiated HTTP/2.
    :param window: how many bytes of each response the service may send; ``None`` for the standard's default.
    """

    def __init__(self, connection: Any, *, window: int | None = None) -> None:
        if connection.selected_alpn_protocol() != "h2":
            raise OSError("the service does not speak HTTP/2: pip install 'Twisted[tls,http2]'")
        self.connection = connection
        self._encoder = hpack.Encoder()
        self._decoder = hpack.Decoder()
        self._received = b""
        settings = b"" if window is None else struct.pack(">HI", _INITIAL_WINDOW_SIZE, window)
        connection.sendall(_PREFACE + frame(_SETTINGS, 0, 0, settings))

    def headers(
        self,
        stream: int,
        method: str,
        target: str,
        fields: dict[str, str] | None = None,
        *,
        end: bool = True,
    ) -> bytes:
        """
        Return the HEADERS frame of a request.

        :param end: whether the frame also ends the request.
        """
        pseudo = {":method": method, ":scheme": "https", ":authority": HOST, ":path": target}
        block = self._encoder.encode([*pseudo.items(), *(fields or {}).items()])
        return frame(_HEADERS, _END_HEADERS | (_END_STREAM if end else 0), stream, block)

    def data(self, stream: int, payload: bytes, *, end: bool = True) -> bytes:
        """
        Return a frame with a part of the body.
        """
        return frame(_DATA, _END_STREAM if end else 0, stream, payload)

    def rst(self, stream: int) -> bytes:
        """
        Return the frame that cancels a request.
        """
        return frame(_RST_STREAM, 0, stream, struct.pack(">I", _CANCEL))

    def read_statuses(self, count: int, *, seconds: float) -> list[int]:
        """
        Read responses.

        :param count: how many; a response counts when its stream has ended.
        :param seconds: the time limit.
        :returns: the statuses of the responses that began.
        """
        statuses, ended = [], 0
        until = time.monotonic() + seconds
        while ended < count and (left := until - time.monotonic()) > 0:
            self.connection.settimeout(left)
            try:
                kind, flags, payload = self._next_frame()
            except OSError:
                break
            if kind == _HEADERS:
                statuses += [int(value) for name, value in self._decoder.decode(payload) if name == ":status"]
            if kind == _RST_STREAM or (kind in (_HEADERS, _DATA) and flags & _END_STREAM):
                ended += 1
            if kind == _GOAWAY:
                break
        return statuses

    def _next_frame(self) -> tuple[int, int, bytes]:
        while len(self._received) < 9 or len(self._received) < 9 + self._length():
            more = self.connection.recv(65536)
            if not more:
                raise ConnectionError("the connection was closed")
            self._received += more
        end = 9 + self._length()
        whole, self._received = self._received[:end], self._received[end:]
        return whole[3], whole[4], whole[9:]

    def _length(self) -> int:
        return int.from_bytes(self._received[:3], "big")
