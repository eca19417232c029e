"""
The command ``txsse``: its table of commands, its help and its errors, called as a function and as a process.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pytest

import txsse
from tests.processes import finish, python
from txsse.cli import Command, main

ROOT = Path(__file__).parent.parent


class MainTests:
    def test_version(self, capsys: pytest.CaptureFixture[str]) -> None:
        """
        ``txsse --version`` prints the name and the version.
        """
        assert main(["--version"]) == 0
        assert capsys.readouterr() == (f"txsse {txsse.__version__}\n", "")

    @pytest.mark.parametrize("argv", [[], ["--help"], ["-h"]])
    def test_help(self, capsys: pytest.CaptureFixture[str], argv: list[str]) -> None:
        """
        ``txsse`` without arguments, or with --help, lists the commands and mentions the service.
        """
        assert main(argv) == 0
        out, err = capsys.readouterr()
        assert out.startswith("usage: txsse [-h] [--version]")
        assert "twist txsse --demo" in out
        assert "commands:" in out and "tail" in out
        assert err == ""

    @pytest.mark.parametrize("argv", [["nothing"], ["--nothing"], ["--version=1"], ["-x"], ["a", "b"]])
    def test_wrong_command_line(self, capsys: pytest.CaptureFixture[str], argv: list[str]) -> None:
        """
        A wrong command line prints one line that points to the help, and returns 2.
        """
        assert main(argv) == 2
        out, err = capsys.readouterr()
        assert out == ""
        [line] = err.splitlines()
        assert line.startswith("txsse: ") and line.endswith("; see txsse --help")

    def test_default_arguments(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        ``main`` without arguments reads the command line of the process.
        """
        monkeypatch.setattr(sys, "argv", ["txsse", "--version"])
        assert main() == 0
        assert capsys.readouterr().out.startswith("txsse ")


class CommandTests:
    """
    ``main`` with a table of two commands of the test's own.
    """

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--status", type=int, default=0)

    TABLE = (
        Command("first", "Do the first thing.", add_arguments, lambda arguments: int(arguments.status)),
        Command("second", "Do the second thing.", lambda parser: None, lambda arguments: 3),
    )

    def test_listed(self, capsys: pytest.CaptureFixture[str]) -> None:
        """
        The help lists each command with its summary.
        """
        assert main([], commands=self.TABLE) == 0
        out = capsys.readouterr().out
        assert "Do the first thing." in out and "Do the second thing." in out

    @pytest.mark.parametrize(
        ("argv", "status"), [(["first"], 0), (["first", "--status=7"], 7), (["second"], 3)]
    )
    def test_run(self, argv: list[str], status: int) -> None:
        """
        A command gets its parsed arguments, and its status is returned.
        """
        assert main(argv, commands=self.TABLE) == status

    @pytest.mark.parametrize(
        ("argv", "prog"),
        [(["first", "--status=x"], "txsse first"), (["third"], "txsse"), (["second", "x"], "txsse")],
    )
    def test_wrong_command_line(self, capsys: pytest.CaptureFixture[str], argv: list[str], prog: str) -> None:
        """
        A wrong command line prints one line that names the command whose help to read, and returns 2.
        """
        assert main(argv, commands=self.TABLE) == 2
        [line] = capsys.readouterr().err.splitlines()
        assert line.startswith(f"{prog}: ") and line.endswith(f"; see {prog} --help")


class ProcessTests:
    @pytest.mark.process
    def test_module(self) -> None:
        """
        ``python -m txsse`` is the command ``txsse``.
        """
        done = finish(python("-m", "txsse", "--version"))
        assert (done.returncode, done.stdout, done.stderr) == (0, f"txsse {txsse.__version__}\n", "")

    @pytest.mark.process
    def test_status(self) -> None:
        """
        The exit status of the process is what ``main`` returns.
        """
        done = finish(python("-m", "txsse", "--nothing"))
        assert (done.returncode, done.stdout) == (2, "")
        assert len(done.stderr.splitlines()) == 1

    def test_console_script(self) -> None:
        """
        setup.py declares ``txsse.cli:main`` as the console script ``txsse``.
        """
        setup = (ROOT / "setup.py").read_text(encoding="utf-8")
        assert '"txsse = txsse.cli:main"' in setup
