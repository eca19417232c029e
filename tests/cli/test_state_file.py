"""
The state file of ``txsse tail``, which contains the ID to resume from.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from txsse.cli.state_file import read_state, write_state


def make_socket(path: Path) -> socket.socket:
    bound = socket.socket(socket.AF_UNIX)
    bound.bind(str(path))
    return bound


# File types other than regular files.
SPECIAL: dict[str, Callable[[Path], object]] = {
    "FIFO": os.mkfifo,
    "directory": Path.mkdir,
    "socket": make_socket,
    "device": lambda path: path.symlink_to("/dev/null"),
    "nothing": lambda path: path.symlink_to("nowhere"),
    "itself": lambda path: path.symlink_to(path),
}


class StateTests:
    @pytest.mark.parametrize("id", ["", "7", "ä b", " x "])
    def test_round_trip(self, tmp_path: Path, id: str) -> None:
        """
        The ID that was written is read, and no other file remains in the directory.
        """
        path = tmp_path / "state"
        assert read_state(path) == ""
        write_state(path, "before")
        write_state(path, id)
        assert read_state(path) == id
        assert os.listdir(tmp_path) == ["state"]

    def test_failed_write(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        A failed write leaves the old ID in the file.
        """
        path = tmp_path / "state"
        write_state(path, "old")

        def fail(*_: object) -> None:
            raise OSError("no space")

        monkeypatch.setattr(os, "replace", fail)
        with pytest.raises(OSError):
            write_state(path, "new")
        assert read_state(path) == "old"
        assert os.listdir(tmp_path) == ["state"]

    def test_file_with_other_content(self, tmp_path: Path) -> None:
        """
        A file that contains more than an event ID is refused.
        """
        path = tmp_path / "state"
        path.write_text("a\nb\n")
        with pytest.raises(ValueError, match="more than an event ID"):
            read_state(path)

    def test_links(self, tmp_path: Path) -> None:
        """
        A link remains a link, and the file at its end is written.
        """
        (tmp_path / "there").mkdir()
        file, link, outer = tmp_path / "there" / "file", tmp_path / "link", tmp_path / "outer"
        file.write_text("7\n")
        link.symlink_to("there/file")
        outer.symlink_to(link)
        assert read_state(outer) == "7"
        write_state(outer, "8")
        assert (file.read_text(), os.readlink(link), os.readlink(outer)) == ("8\n", "there/file", str(link))
        assert os.listdir(file.parent) == ["file"]

    @pytest.mark.parametrize("mode", [0o600, 0o644, 0o660, 0o2660])
    def test_mode(self, tmp_path: Path, mode: int) -> None:
        """
        A write keeps the mode of the file.
        """
        path = tmp_path / "state"
        path.write_text("7\n")
        path.chmod(mode)
        write_state(path, "8")
        assert path.stat().st_mode & 0o7777 == mode

    @pytest.mark.skipif(os.getuid() != 0, reason="run as root: others cannot give files away")
    def test_owner(self, tmp_path: Path) -> None:
        """
        A write keeps the owner and the group of the file, and its set-user-ID and set-group-ID bits.
        """
        path = tmp_path / "state"
        path.write_text("7\n")
        os.chown(path, 1234, 2345)
        path.chmod(0o4640)
        assert read_state(path) == "7"
        write_state(path, "8")
        found = path.stat()
        assert (found.st_uid, found.st_gid, found.st_mode & 0o7777) == (1234, 2345, 0o4640)

    def test_owner_that_cannot_be_kept(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        A file whose owner cannot be kept is refused when it is read, and no temporary file remains.
        """
        path = tmp_path / "state"
        path.write_text("7\n")
        real = os.stat

        def other_owner(where: object, **options: object) -> object:
            found = real(where, **options)  # type: ignore[arg-type, call-overload]
            return os.stat_result((*found[:4], found.st_uid + 1, *found[5:10])) if where == path else found

        def refuse(*_: object) -> None:
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(os, "stat", other_owner)
        monkeypatch.setattr(os, "chown", refuse)
        with pytest.raises(PermissionError, match="its owner and group cannot be kept"):
            read_state(path)
        monkeypatch.undo()
        assert (os.listdir(tmp_path), path.read_text()) == (["state"], "7\n")

    def test_read_only(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        A file without write permission is refused when it is read.
        """
        path = tmp_path / "state"
        path.write_text("7\n")
        path.chmod(0o400)
        monkeypatch.setattr(os, "access", lambda *_: False)
        with pytest.raises(PermissionError, match="it cannot be written"):
            read_state(path)

    @pytest.mark.parametrize("linked", [False, True])
    @pytest.mark.parametrize("make", SPECIAL.values(), ids=SPECIAL)
    def test_not_a_regular_file(self, tmp_path: Path, make: Callable[[Path], object], linked: bool) -> None:
        """
        Anything but a regular file is refused for reading and writing, and remains unchanged.
        """
        path = thing = tmp_path / "thing"
        kept = make(thing)
        if linked:
            path = tmp_path / "link"
            path.symlink_to(thing)
        before = os.lstat(thing)
        for use in (read_state, lambda path: write_state(path, "8")):
            with pytest.raises((ValueError, OSError)):
                use(path)
        after = os.lstat(thing)
        assert (before.st_ino, before.st_mode) == (after.st_ino, after.st_mode)
        assert set(os.listdir(tmp_path)) <= {"thing", "link"}
        del kept

    @pytest.mark.parametrize("path", ["/dev/null", "/dev/full", "/dev/fd/0", "/proc/self/mem"])
    def test_devices(self, path: str) -> None:
        """
        Devices are refused for writing.
        """
        with pytest.raises((ValueError, OSError)):
            write_state(Path(path), "8")
