"""
Measure one attack on the service: its figures, and the bounds that they have to keep.
"""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shared.processes import Failed, Process

from abusing.sampler import Sampler, sample
from abusing.wire import Answer, make_token, read_answer, request

__all__ = ["Attack", "Bench", "Check", "Figures"]

_PROBE = Path(__file__).with_name("probe.py")

# How long the service may take to start, and to become idle after an attack, in seconds; and how much CPU, in
# seconds, it may use to become idle.
_PATIENCE = 20.0
_CALM = 6.0

# The service counts as idle if so many samples in succession find it asleep. The probe wakes it only briefly.
_ASLEEP = 6


@dataclass(frozen=True)
class Check:
    """
    A figure with its bound.

    :ivar most: the bound.
    """

    what: str
    value: float
    most: float
    unit: str = ""

    @property
    def kept(self) -> bool:
        """
        Whether the bound is kept.
        """
        return self.value <= self.most


@dataclass
class Figures:
    """
    The effects of an attack on the service, and on another client.

    :ivar peak: by how many bytes the service's memory grew, at most.
    :ivar after: by how many bytes it was larger after the attacker had disconnected.
    :ivar descriptors: how many more descriptors it had open, at most.
    :ivar files: the size of its temporary files, at most, in bytes.
    :ivar waited: the longest that another client waited for a response, in seconds.
    :ivar held: the most CPU that the service used during one such wait, in seconds.
    :ivar probes: how many requests the other client sent.
    :ivar failed: how many requests of the other client received no response.
    :ivar cpu: the CPU that the service used in all, in seconds.
    :ivar log: how many bytes it logged.
    """

    peak: int = 0
    after: int = 0
    descriptors: int = 0
    files: int = 0
    waited: float = 0.0
    held: float = 0.0
    probes: int = 0
    failed: int = 0
    cpu: float = 0.0
    log: int = 0


@dataclass(frozen=True)
class Attack:
    """
    An attack, and the options of the service for it.

    :ivar entry: the label of its kind, for ``--only``.
    :ivar name: its name in the table.
    :ivar run: performs it.
    :ivar options: options of the service. Names separated by ``|`` are those of different revisions.
    """

    entry: str
    name: str
    run: Any
    options: Sequence[str] = ()


@dataclass
class Bench:
    """
    A service, and its attacker.

    :ivar figures: the effects of the attack.
    :ivar checks: the figures that have bounds.
    :ivar notes: other observations, for the table.
    """

    process: Process
    folder: Path
    port: int
    tls_port: int
    key: str
    figures: Figures = field(default_factory=Figures)
    checks: list[Check] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def wait_until_ready(self, core: int) -> None:
        """
        Wait until the service responds, and move it to its core.

        :raises Failed: if it does not start.
        """
        for task in os.listdir(f"/proc/{self.process.pid}/task"):
            with suppress(OSError):
                os.sched_setaffinity(int(task), {core})
        until = time.monotonic() + _PATIENCE
        while time.monotonic() < until:
            if self.process.popen.poll() is not None:
                raise Failed(f"the service does not start: {self.process.complaint()}")
            with suppress(OSError):
                # The first requests import what later ones use.
                for transport in ("unix", "tls", "tcp"):
                    self.ask(request("GET", "/nothing", {"connection": "close"}), transport)
                return
            time.sleep(0.03)
        raise Failed("the service does not listen")

    def token(self, action: str, *topics: dict[str, str]) -> str:
        """
        Make a token that the service accepts.
        """
        return make_token(self.key, action, *([topics] if topics else []))

    def check(self, what: str, value: float, most: float, unit: str = "") -> None:
        """
        Record a figure with its bound.
        """
        self.checks.append(Check(what, value, most, unit))

    def connect(self, transport: str = "tcp", *, http2: bool = False, receive: int = 0) -> socket.socket:
        """
        Connect to the service.

        :param transport: ``tcp``, ``tls`` or ``unix``.
        :param receive: the size of the receive buffer, for a client that does not read.
        """
        unix = transport == "unix"
        plain = socket.socket(socket.AF_UNIX if unix else socket.AF_INET)
        plain.settimeout(_PATIENCE)
        if receive:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
        if unix:
            # Through the folder's descriptor, because the path may exceed the limit for socket paths.
            folder = os.open(self.folder, os.O_PATH)
            try:
                plain.connect(f"/proc/self/fd/{folder}/hub.sock")
            finally:
                os.close(folder)
            return plain
        plain.connect(("127.0.0.1", self.tls_port if transport == "tls" else self.port))
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if transport == "tcp":
            return plain
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.set_alpn_protocols(["h2"] if http2 else ["http/1.1"])
        return context.wrap_socket(plain)

    def ask(self, data: bytes, transport: str = "tcp") -> Answer:
        """
        Send a request on a new connection, and read the response.
        """
        with self.connect(transport) as connection:
            # The service may reject the request, and close, before the whole body is sent.
            with suppress(OSError):
                connection.sendall(data)
            return read_answer(connection)

    def cpu(self) -> float:
        """
        Return the CPU that the service has used, in seconds.
        """
        return self.process.cpu().total

    @contextmanager
    def attacked(self, most: float = _CALM) -> Iterator[ExitStack]:
        """
        Measure the service while the context is open. The attacker enters its connections into the yielded
        stack. They are closed when the service is idle again, or has used too much CPU.

        :param most: how much CPU the service may use until it is idle, in seconds.
        """
        probe = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_PROBE), str(self.port), str(self.process.pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert probe.stdin is not None and probe.stdout is not None
            probe.stdout.readline()
            temporary = self.folder / "tmp"
            before = sample(self.process, temporary)
            cpu, log = self.cpu(), self._log_size()
            self.process.forget_peak()
            figures = self.figures
            try:
                with Sampler(self.process, temporary) as sampler:
                    with ExitStack() as connections:
                        yield connections
                        self.settle(most)
                    self.settle(most)
                    probed = json.loads(probe.communicate("end\n", timeout=2 * _PATIENCE)[0])
                self._check_alive()
            finally:
                self.notes += [sampler.problem] if sampler.problem else []
                figures.peak = sampler.memory - before.memory
                figures.descriptors = sampler.descriptors - before.descriptors
                figures.files = sampler.files - before.files
            figures.peak = max(figures.peak, self.process.peak() - before.memory)
            figures.after = self.process.resident() - before.memory
            figures.cpu, figures.log = self.cpu() - cpu, self._log_size() - log
            for name, value in probed.items():
                setattr(figures, name, value)
        finally:
            probe.kill()
            probe.communicate()

    def settle(self, most: float = _CALM) -> None:
        """
        Wait until the service is idle, or has used too much CPU.

        :param most: how much CPU it may use, in seconds.
        """
        until, limit = time.monotonic() + _PATIENCE, self.cpu() + most
        asleep = 0
        while asleep < _ASLEEP:
            time.sleep(0.02)
            self._check_alive()
            # Not measured by CPU: on a busy machine the service may be runnable and get none.
            state = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[0]
            asleep = asleep + 1 if state == "S" else 0
            if time.monotonic() > until or self.cpu() > limit:
                self.notes.append("still busy")
                return

    def _check_alive(self) -> None:
        if self.process.popen.poll() is not None:
            raise Failed("the service has exited")

    def _log_size(self) -> int:
        return sum((self.folder / name).stat().st_size for name in ("service.log", "service.err"))
