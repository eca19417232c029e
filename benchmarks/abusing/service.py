"""
Start the service that is attacked, in its own process.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from shared.peers import CACHE
from shared.processes import Failed, Process, ending
from shared.running import free_port, run_folder

from abusing.bench import Bench
from abusing.wire import URL, make_certificate

__all__ = ["Subject", "benched"]


@dataclass(frozen=True)
class Subject:
    """
    The service that is measured.

    :ivar python: the interpreter that runs it.
    :ivar environment: the environment variables that it needs.
    :ivar help: the output of its ``--help``.
    :ivar versions: the versions of txsse's dependencies, and where txsse is imported from.
    """

    python: str
    environment: dict[str, str]
    help: str
    versions: dict[str, str]

    @classmethod
    def find(cls, python: str, tree: Path) -> Subject:
        """
        Find out the versions and options of the service.

        :param tree: the checkout that it is imported from.
        :raises Failed: if it cannot be imported.
        """
        code = (
            "import json, platform, txsse; from importlib.metadata import version; "
            "print(json.dumps({'txsse from': txsse.__path__[0], 'Python': platform.python_version(), "
            "**{name: version(name) for name in ('Twisted', 'h2', 'PyJWT')}}))"
        )
        # Write bytecode elsewhere: the checkout may belong to another user.
        own = {
            "PYTHONPATH": str(tree),
            "PYTHONPYCACHEPREFIX": str(CACHE / "bytecode"),
            "PYTHONDONTWRITEBYTECODE": "",
        }
        environment = {**os.environ, **own}
        queries = [
            subprocess.Popen(
                [python, *arguments],
                env=environment,
                cwd=tree,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for arguments in (["-c", code], ["-m", "twisted", "txsse", "--help"])
        ]
        answers = [each.communicate() for each in queries]
        for each, (_, errors) in zip(queries, answers, strict=True):
            if each.returncode:
                raise Failed(f"{python} cannot run the service of {tree}: {errors.strip()[-300:]}")
        outputs = [output for output, _ in answers]
        versions = json.loads(outputs[0])
        if Path(versions["txsse from"]).resolve() != (tree / "txsse").resolve():
            raise Failed(f"{python} imports txsse from {versions['txsse from']}, not from {tree}")
        return cls(python, own, outputs[1], versions)

    def option(self, *names: str) -> str:
        """
        Return the first of an option's names that this revision knows.
        """
        return next((name for name in names if f"{name} " in self.help or f"{name}=" in self.help), names[0])


@contextmanager
def benched(subject: Subject, options: Sequence[str]) -> Iterator[Bench]:
    """
    Start a service that listens on TCP, TLS and a UNIX socket; kill it at the end.

    It starts on the attacker's core while another service is attacked; see :meth:`Bench.wait_until_ready`.

    :param options: further options of the service.
    """
    with run_folder() as folder:
        (folder / "tmp").mkdir()
        make_certificate(folder / "server.pem")
        ports = free_port(), free_port()
        key = secrets.token_urlsafe(32)
        given = dict(option.partition("=")[::2] for option in options)
        written = [
            subject.option(*name.split("|")) + (f"={value}" if value else "") for name, value in given.items()
        ]
        command = [
            *(subject.python, "-m", "twisted", f"--log-file={folder / 'service.log'}", "--log-format=text"),
            *("txsse", f"--url={URL}"),
            f"--listen=tcp:{ports[0]}:interface=127.0.0.1",
            f"--listen=ssl:{ports[1]}:privateKey=server.pem:interface=127.0.0.1",
            "--listen=unix:hub.sock",
            *written,
        ]
        process = Process(
            command,
            core=max(os.sched_getaffinity(0)),
            folder=folder,
            environment=subject.environment | {"TXSSE_KEY": key, "TMPDIR": str(folder / "tmp")},
            errors=folder / "service.err",
        )
        with ending(process):
            yield Bench(process, folder, *ports, key)
            # A graceful shutdown would wait for open streams.
            process.popen.kill()
