"""
Output of the commands to closed and failing streams.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from types import SimpleNamespace

import pytest

from tests.mercure.world import SECRET, URL
from txsse import _output as output
from txsse._output import Unwritable, put
from txsse.cli import main

FULL = OSError(errno.ENOSPC, "No space left on device")
GONE = BrokenPipeError(errno.EPIPE, "Broken pipe")


class Failing(io.StringIO):
    """
    A stream that fails to flush; or, if not ``late``, to write.
    """

    def __init__(self, error: OSError, *, late: bool = True) -> None:
        super().__init__()
        self.error = error
        self.late = late

    def write(self, text: str) -> int:
        if not self.late:
            raise self.error
        return super().write(text)

    def flush(self) -> None:
        raise self.error


@pytest.fixture
def dropped(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """
    Return the descriptors that were redirected to the null device.
    """
    numbers: list[int] = []

    def dup2(source: int, target: int) -> None:
        os.close(source)
        numbers.append(target)

    # Not in the module os itself: pytest needs it to capture the output of tests.
    own = SimpleNamespace(dup2=dup2, open=os.open, devnull=os.devnull, O_WRONLY=os.O_WRONLY)
    monkeypatch.setattr(output, "os", own)
    monkeypatch.setattr(Failing, "fileno", lambda self: 1)
    return numbers


class PutTests:
    def test_printed(self) -> None:
        """
        A text is written to the stream.
        """
        out = io.StringIO()
        put(out, "x\n")
        assert out.getvalue() == "x\n"

    @pytest.mark.parametrize("late", [True, False])
    @pytest.mark.parametrize(("error", "unread"), [(FULL, False), (GONE, True)])
    def test_failed(self, dropped: list[int], error: OSError, unread: bool, late: bool) -> None:
        """
        A failed write raises one error, and redirects the descriptor, so that the exit of Python does not
        fail again.
        """
        with pytest.raises(Unwritable, match=f"^stdout cannot be written: {error.strerror}$") as raised:
            put(Failing(error, late=late), "x")
        assert raised.value.unread == unread
        assert dropped == [1]

    def test_closed(self) -> None:
        """
        Writing to a closed stdout raises an error.
        """
        with pytest.raises(Unwritable, match=r"^stdout is closed$"):
            put(None, "x")


class MainTests:
    @pytest.mark.parametrize("late", [True, False])
    @pytest.mark.parametrize("argv", [[], ["--help"], ["--version"], ["token", "--help"]])
    @pytest.mark.parametrize(
        ("error", "expected"),
        [(FULL, (1, "txsse: stdout cannot be written: No space left on device\n")), (GONE, (0, ""))],
    )
    def test_help(
        self,
        dropped: list[int],
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        argv: list[str],
        error: OSError,
        expected: tuple[int, str],
        late: bool,
    ) -> None:
        """
        Help that cannot be printed is reported, unless the reader closed the pipe.
        """
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", Failing(error, late=late))
            status = main(argv)
        assert (status, capsys.readouterr().err) == expected
        assert 1 in dropped

    @pytest.mark.parametrize(
        "argv",
        [[], ["--help"], ["--version"], ["tail", "--help"], ["publish", "--help"], ["token", "--help"]],
    )
    def test_help_with_stdout_closed(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], argv: list[str]
    ) -> None:
        """
        If stdout is closed, the help is reported as not printed, in one line on stderr and by the exit
        status.
        """
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", None)
            status = main(argv)
        assert (status, capsys.readouterr().err) == (1, "txsse: stdout is closed\n")

    def test_all_closed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        With all standard streams closed, the exit status still reports the failure.
        """
        monkeypatch.setenv("TXSSE_KEY", SECRET)
        for argv, status in (
            (["token", "--audience", URL], 1),
            (["token"], 2),
            (["token", "--decode", "-"], 2),
        ):
            with monkeypatch.context() as patch:
                for name in ("stdin", "stdout", "stderr"):
                    patch.setattr(sys, name, None)
                assert main(argv) == status
                sys.stderr.close()
