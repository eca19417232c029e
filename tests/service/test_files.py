"""
The files that the service and the commands make.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.mercure.world import SECRET
from tests.processes import finish, python
from txsse.cli.state_file import write_state


@pytest.fixture
def any_mode() -> Iterator[None]:
    """
    Nothing is taken away from the modes that files are made with.
    """
    before = os.umask(0)
    yield
    os.umask(before)


def run_service(path: Path) -> None:
    """
    Make the service as it is made to run, and end it.
    """
    options = [
        "--listen=tcp:0:interface=127.0.0.1",
        "--url=http://localhost/.well-known/mercure",
        "--anonymous",
    ]
    own = [f"--access-log={path / 'access.log'}", "--check"]
    finish(python("-m", "twisted", "txsse", *options, *own), cwd=path, env={"TXSSE_KEY": SECRET}, check=True)


@pytest.mark.usefixtures("any_mode")
class FilesTests:
    @pytest.mark.parametrize("make", [run_service, lambda path: write_state(path / "state", "id")])
    def test_for_their_owner_alone(self, make: Callable[[Path], None], tmp_path: Path) -> None:
        """
        Nobody else can read or write them, whatever the umask is.
        """
        make(tmp_path)
        made = {each.name: stat.S_IMODE(each.stat().st_mode) for each in tmp_path.rglob("*")}
        assert made
        assert set(made.values()) == {0o600}, made

    def test_access_log_that_is_there(self, tmp_path: Path) -> None:
        """
        It keeps the mode and the lines that it has.
        """
        log = tmp_path / "access.log"
        log.write_text("before\n")
        log.chmod(0o640)
        run_service(tmp_path)
        assert stat.S_IMODE(log.stat().st_mode) == 0o640
        assert log.read_text() == "before\n"
