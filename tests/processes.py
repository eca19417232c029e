"""
Programs that tests run as processes of their own.

Each ends with the block that started it, and each wait has a deadline. The output goes to files, so that a
program never waits for its reader.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from tests import needs as _needs
from tests.waiting import PATIENCE, wait_until

__all__ = ["ROOT", "TWIST", "Program", "environment", "finish", "free_port", "python", "serving", "start"]

ROOT = Path(__file__).parent.parent
TWIST = str(Path(sysconfig.get_path("scripts")) / "twist")


def free_port() -> int:
    """
    Return a port of 127.0.0.1 that no program listens on.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(changes: Mapping[str, str] | None = None) -> dict[str, str]:
    """
    Return a program's environment: this one with the tree under test, without options for txsse and pytest.
    """
    foreign = ("TXSSE_", "PYTEST_")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    inherited |= {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"}
    return inherited | dict(changes or {})


class Program:
    """
    A running program.

    :ivar process: its process.
    """

    def __init__(self, process: subprocess.Popen[bytes], directory: Path) -> None:
        self.process = process
        self._directory = directory
        # The texts, once the files are deleted.
        self._kept: dict[str, str] = {}

    @property
    def out(self) -> str:
        """
        The text that it has written to stdout.
        """
        return self._read("out")

    @property
    def err(self) -> str:
        """
        The text that it has written to stderr.
        """
        return self._read("err")

    @property
    def output(self) -> str:
        """
        Both texts, stdout first.
        """
        return self.out + self.err

    def _read(self, name: str) -> str:
        if name in self._kept:
            return self._kept[name]
        return (self._directory / name).read_text("utf-8", "replace")

    def wait_for(self, pattern: str, count: int = 1) -> list[str]:
        """
        Wait until whole lines of stdout or stderr match a pattern.

        :param pattern: a regular expression with at most one group.
        :param count: the number of matches to wait for.
        :returns: all matches, as :func:`re.findall`.
        """

        def look() -> list[str]:
            ended = self.process.poll() is not None
            # A line that is not complete yet could hold half a URL.
            lines = "".join(text[: text.rfind("\n") + 1] for text in (self.out, self.err))
            found: list[str] = re.findall(pattern, lines, re.MULTILINE)
            assert len(found) >= count or not ended, f"{self.process.args!r} ended: {self.output}"
            return found

        return wait_until(
            look,
            lambda found: len(found) >= count,
            lambda: f"{self.process.args!r} prints {pattern!r}: {self.output}",
        )

    def write(self, text: str) -> None:
        """
        Send text to its stdin, which stays open.
        """
        assert self.process.stdin is not None
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """
        Send a signal, and wait for the end of the process.

        :returns: its exit status, also where it has ended already.
        """
        # This does nothing where the process has ended.
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """
        Wait for the end of the process.

        :returns: its exit status.
        """
        return self.process.wait(PATIENCE)

    def kill(self) -> None:
        """
        End the process with SIGKILL, also one that is stopped.
        """
        self.process.kill()
        self.process.wait(PATIENCE)

    def end(self) -> None:
        """
        Kill the process, and keep its output.
        """
        self.kill()
        if self.process.stdin is not None:
            self.process.stdin.close()
        self._kept = {name: self._read(name) for name in ("out", "err")}


@contextmanager
def start(
    argv: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path = ROOT,
    stdin: int = subprocess.DEVNULL,
    pass_fds: Sequence[int] = (),
    needs: str = "process",
) -> Iterator[Program]:
    """
    Run a program. At the end of the block it is killed.

    :param argv: the program with its arguments.
    :param env: variables of its environment that differ from :func:`environment`.
    :param needs: the mark of the tests that run it.
    """
    _needs.require(needs)
    with TemporaryDirectory(prefix="txsse-") as name:
        directory = Path(name)
        with (directory / "out").open("wb") as out, (directory / "err").open("wb") as err:
            process = subprocess.Popen(
                [str(each) for each in argv],
                cwd=cwd,
                env=environment(env),
                stdin=stdin,
                stdout=out,
                stderr=err,
                pass_fds=pass_fds,
                preexec_fn=_heed_interrupts,
            )
        program = Program(process, directory)
        try:
            yield program
        finally:
            program.end()


@contextmanager
def serving(*argv: str | Path, says: str, needs: str = "process") -> Iterator[list[str]]:
    """
    Run a server in Python. At the end of the block it is stopped; it fails the test if it logged a traceback.

    :param argv: the arguments of Python.
    :param says: a pattern with one group, which the server prints once it listens.
    :returns: the values of the group.
    """
    with start(python(*argv), needs=needs) as program:
        yield program.wait_for(says)
        program.stop()
        output = program.output
        assert "Traceback" not in output and "Unhandled" not in output, output


def finish(
    argv: Sequence[str | Path],
    *,
    input: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path = ROOT,
    check: bool = False,
    needs: str = "process",
) -> subprocess.CompletedProcess[str]:
    """
    Run a program to its end.

    :param argv: the program with its arguments.
    :param input: the text that it reads from stdin; by default, none.
    :param env: as for :func:`start`.
    :param check: whether a status other than 0 fails the test, with the output.
    :returns: its exit status, and the texts of stdout and stderr.
    """
    _needs.require(needs)
    done = subprocess.run(
        [str(each) for each in argv],
        cwd=cwd,
        env=environment(env),
        input=input or "",
        capture_output=True,
        encoding="utf-8",
        timeout=PATIENCE,
        check=False,
        preexec_fn=_heed_interrupts,
    )
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


def _heed_interrupts() -> None:
    # A shell lets the programs in its background ignore SIGINT, and children inherit that.
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def python(*argv: str | Path) -> list[str | Path]:
    """
    Return a command line for this Python.
    """
    return [sys.executable, *argv]
