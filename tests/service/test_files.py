"""
Tests of the files that the service and the commands create.
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

pytestmark = pytest.mark.process


@pytest.fixture
def any_mode() -> Iterator[None]:
    """
    Set a umask of 0, which does not restrict the modes of new files.
    """
    before = os.umask(0)
    yield
    os.umask(before)


def run_service(path: Path) -> None:
    """
    Make the service with an access log, and stop it.
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
    def test_readable_by_the_owner_only(self, make: Callable[[Path], None], tmp_path: Path) -> None:
        """
        Only the owner can read and write files that the service and the commands create, with any umask.
        """
        make(tmp_path)
        made = {each.name: stat.S_IMODE(each.stat().st_mode) for each in tmp_path.rglob("*")}
        assert made
        assert set(made.values()) == {0o600}, made

    def test_existing_access_log(self, tmp_path: Path) -> None:
        """
        An existing access log keeps its mode and its lines.
        """
        log = tmp_path / "access.log"
        log.write_text("before\n")
        log.chmod(0o640)
        run_service(tmp_path)
        assert stat.S_IMODE(log.stat().st_mode) == 0o640
        assert log.read_text() == "before\n"
