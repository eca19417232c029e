"""
The documentation and the code name the same modules, files and public names, and its links work.
"""

from __future__ import annotations

import importlib
import re
import shutil
from pathlib import Path

import pytest

from tests.test_floors import FLOORS

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.rst"))
ARCHITECTURE = (DOCS / "architecture.rst").read_text(encoding="utf-8")

# The modules whose ``__all__`` users may rely on.
PUBLIC = ["txsse", "txsse.journal.redis", "txsse.journal.sqlite", "txsse.mercure", "txsse.testing"]


class ArchitectureTests:
    def test_rooms(self) -> None:
        """
        The architecture page lists every room once, on its floor, from the top floor to the bottom.
        """
        rows = re.findall(r"^``(\w+)`` +(-?\d+) ", ARCHITECTURE, re.MULTILINE)
        listed = [(room, int(floor)) for room, floor in rows]
        assert dict(listed) == FLOORS
        assert len(listed) == len(FLOORS)
        floors = [int(floor) for _, floor in rows]
        assert floors == sorted(floors, reverse=True)

    def test_paths(self) -> None:
        """
        Every file and directory that the architecture page names exists.
        """
        named = set(re.findall(r"``((?:txsse|tests)/[^`]*)``", ARCHITECTURE))
        assert len(named) > 30
        assert {path for path in named if not (ROOT / path).exists()} == set()


class ReferenceTests:
    @pytest.mark.parametrize("module", PUBLIC)
    def test_names(self, module: str) -> None:
        """
        The API reference lists every public name of a module once.
        """
        names = {name for name in importlib.import_module(module).__all__ if name != "__version__"}
        reference = (DOCS / "api.rst").read_text(encoding="utf-8")
        listed = re.findall(rf"^\.\. auto\w+:: {re.escape(module)}\.(\w+)$", reference, re.MULTILINE)
        assert names - set(listed) == set()
        assert len(listed) == len(set(listed))


class FragmentTests:
    def test_names(self) -> None:
        """
        Each changelog fragment has a name that towncrier includes: it ignores others without a message.
        """
        names = {path.name for path in (ROOT / "changelog.d").iterdir()} - {"README.rst"}
        assert {
            name for name in names if not re.fullmatch(r"\+.+\.(feature|bugfix|removal)\.rst", name)
        } == set()


class LinkTests:
    @pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
    def test_links_of_the_repository(self, page: Path) -> None:
        """
        Each relative link of a documentation page names a file or directory that exists.
        """
        targets = re.findall(r"<(?!https?:)([^>`]+)>`_", page.read_text(encoding="utf-8"))
        assert [target for target in targets if not (DOCS / target.partition("#")[0]).exists()] == []

    @pytest.mark.slow
    def test_built(self, tmp_path: Path) -> None:
        """
        In the built documentation, a link to a page leads to the built page, and one to another file to a
        copy of it; a directory is plain text, and a missing file is a warning.
        """
        testing = pytest.importorskip("sphinx.testing.util", reason="pip install 'txsse[docs]'")
        pytest.importorskip("furo", reason="pip install 'txsse[docs]'")
        for folder in ("docs", "changelog.d"):
            (tmp_path / folder).mkdir()
        shutil.copy(DOCS / "conf.py", tmp_path / "docs")
        files = {
            "README.rst": "Title\n=====\n\n`page <docs/other.rst>`_, `file <program.py>`_\n",
            "program.py": "print()\n",
            "docs/index.rst": ".. include:: ../README.rst\n\n.. toctree::\n\n   other\n",
            "docs/other.rst": "Other\n=====\n\n"
            "`own <index.rst>`_, `code <../program.py>`_, `changes <../changelog.d>`_, `none <none.rst>`_\n",
        }
        for name, text in files.items():
            (tmp_path / name).write_text(text, encoding="utf-8")
        app = testing.SphinxTestApp("html", tmp_path / "docs", builddir=tmp_path / "build")
        try:
            app.build()
        finally:
            app.cleanup()
        index, other = ((app.outdir / f"{name}.html").read_text("utf-8") for name in ("index", "other"))
        assert '<a class="reference internal" href="other.html"><span class="doc">page</span></a>' in index
        for shown, label in ((index, "file"), (other, "code")):
            copied = re.search(
                rf'href="(_downloads/\w+/program\.py)"><code class="[^"]*"><span class="pre">{label}</span>',
                shown,
            )
            assert copied is not None
            assert (app.outdir / copied[1]).read_text("utf-8") == "print()\n"
        assert 'href="index.html"' in other
        assert '<span class="pre">changes</span>' in other and "changelog.d" not in other
        assert "no such file: none.rst" in app.warning.getvalue()
