"""
The Sphinx configuration.

The build needs no network access::

    python -m sphinx -W -b html docs build/docs
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from inspect import cleandoc
from pathlib import Path
from textwrap import indent

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.transforms import SphinxTransform
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective
from zope.interface.interface import InterfaceClass, Method

from txsse._version import __version__

DOCS = Path(__file__).parent
ROOT = DOCS.parent

project = "txsse"
author = "the txsse developers"
release = version = __version__.public()

extensions = ["sphinx.ext.autodoc"]
html_theme = "furo"
html_title = f"txsse {release}"
html_static_path = ["_static"]
html_css_files = ["tables.css"]
html_copy_source = False
# The index is wider than a phone's screen; the search and the API reference have the same names.
html_use_index = False
html_show_copyright = False

autodoc_member_order = "bysource"
# Show default values as in the source, not as repr() writes them.
autodoc_preserve_defaults = True
# Types in a signature would be wider than a phone's screen.
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"

# A reference without a target is a warning. Exceptions: other packages, whose inventories would have to be
# fetched; private modules; and attributes, because ``:ivar:`` fields define no targets.
nitpicky = True
nitpick_ignore_regex = [
    (r"py:.*", r"(?!txsse\b)[a-z_]+(\.\w+)+|json"),
    (r"py:mod", r"txsse\._\w+"),
    (r"py:attr", r".*"),
]

_log = logging.getLogger(__name__)


class RepositoryLinks(SphinxTransform):
    """
    Resolves links that also work in a viewer of the repository, such as ```Journals <journals.rst>`_``.

    A link to a page becomes a link to the built page, a link to another file one to a copy of the file, and a
    link to a directory becomes plain text. A link to a missing file is a warning.
    """

    default_priority = 500

    def apply(self, **_: object) -> None:
        """
        Resolve the links of one page.
        """
        for reference in [*self.document.findall(nodes.reference)]:
            target = str(reference.get("refuri", "")).partition("#")[0]
            if not target or ":" in target:
                continue
            # In included text, links are relative to the included file.
            file = (Path(_source_of(reference)).parent / target).resolve()
            if not file.exists():
                _log.warning("no such file: %s", target, location=reference)
            elif file.is_dir():
                reference.replace_self(nodes.literal("", reference.astext()))
            elif file.suffix == ".rst" and file.parent == DOCS:
                reference.replace_self(_page(reference, file.stem))
            else:
                reference.replace_self(_copy(reference, file, self.env.docname))


def _source_of(node: nodes.Element) -> str:
    above: nodes.Element | None = node
    while above is not None and not above.source:
        above = above.parent
    assert above is not None and above.source is not None
    return str(above.source)


def _page(reference: nodes.reference, page: str) -> nodes.Element:
    link = addnodes.pending_xref(
        "", refdomain="std", reftype="doc", reftarget=f"/{page}", refexplicit=True, refwarn=True
    )
    link += nodes.inline("", reference.astext())
    return link


def _copy(reference: nodes.reference, file: Path, page: str) -> nodes.Element:
    link = addnodes.download_reference("", reftarget=f"/../{file.relative_to(ROOT)}", refdoc=page)
    link += nodes.literal("", reference.astext())
    return link


class AutoInterface(SphinxDirective):
    """
    ``.. autointerface:: NAME`` documents a zope.interface, as ``autoclass`` documents a class.

    autodoc itself treats interfaces as data.
    """

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """
        Generate the interface's reStructuredText, and parse it.
        """
        name = self.arguments[0]
        module, _, attribute = name.rpartition(".")
        interface = getattr(import_module(module), attribute)
        if not isinstance(interface, InterfaceClass):
            raise self.error(f"{name} is not a zope.interface: use autoclass")
        return self.parse_text_to_nodes("\n".join(_interface(name, interface)))


def _interface(name: str, interface: InterfaceClass) -> Iterator[str]:
    yield from (f".. py:class:: {name}", f"   :canonical: {interface.__module__}.{interface.__name__}", "")
    yield from (indent(cleandoc(interface.getDoc()), "   "), "")
    for member, found in interface.namesAndDescriptions(all=True):
        kind = (
            f"method:: {member}{found.getSignatureString()}"
            if isinstance(found, Method)
            else f"attribute:: {member}"
        )
        yield from (f"   .. py:{kind}", "", indent(cleandoc(found.getDoc()), "      "), "")


def leave_annotations(
    app: Sphinx, env: BuildEnvironment, node: addnodes.pending_xref, content: nodes.Element
) -> nodes.Element | None:
    """
    Return plain text for types in annotations that these pages do not document, to avoid a warning.

    References that an author wrote contain a literal, and still cause a warning.
    """
    return None if isinstance(content, nodes.literal) else content


def setup(app: Sphinx) -> dict[str, bool]:
    """
    Add the transform, the handler and the directive to Sphinx.
    """
    app.add_transform(RepositoryLinks)
    app.connect("missing-reference", leave_annotations)
    app.add_directive("autointerface", AutoInterface)
    return {"parallel_read_safe": True}
