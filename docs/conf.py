"""How the pages become a site: Sphinx with furo and MyST, no network needed.

A name of the public API in code type, in a page or in a docstring, becomes a link to its reference; a name of the
standard library in a signature leads to Python's documentation.
"""

from __future__ import annotations

import inspect
from importlib.metadata import version as version_of
from typing import TYPE_CHECKING, ClassVar

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.transforms import SphinxTransform

import aioalphapoint
import aioalphapoint.bulk
import aioalphapoint.reconcile
import aioalphapoint.testing

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

project = "aioalphapoint"
author = "the authors of aioalphapoint"
copyright = "MIT licence"  # noqa: A001  (Sphinx's name of it)
release = version = version_of("aioalphapoint")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "drawings/node_modules"]
nitpicky = True
myst_heading_anchors = 3
# Blocks that are run have no colours to lose; a console's output has none to find.
highlight_language = "python"

html_theme = "furo"
html_title = "aioalphapoint"
html_static_path = ["_static"]
html_css_files = ["drawings.css"]
html_show_sphinx = False
html_copy_source = False
html_theme_options = {"navigation_with_keys": True}
pygments_style = "friendly"
pygments_dark_style = "native"

default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_class_signature = "mixed"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 100
napoleon_numpy_docstring = False
napoleon_use_ivar = True

PUBLIC_MODULES = (aioalphapoint, aioalphapoint.bulk, aioalphapoint.reconcile, aioalphapoint.testing)
PUBLIC = {name: f"{module.__name__}.{name}" for module in PUBLIC_MODULES for name in module.__all__}
# A method's name says whose it is where it is two words: `cancel_withdraw`, not `call`.
METHODS = {name: f"aioalphapoint.Client.{name}" for name in dir(aioalphapoint.Client) if "_" in name.strip("_")}
LINKED = {name: target for name, target in METHODS.items() if not name.startswith("_")} | PUBLIC

# Where Python's documentation has a page of the module's name.
STANDARD_LIBRARY = {"asyncio", "collections.abc", "contextlib", "datetime", "decimal", "enum", "os", "pathlib"}
STANDARD_LIBRARY |= {"random", "ssl", "typing", "uuid"}

# Type variables, and aliases that a signature spells out.
nitpick_ignore = []


class LinkPublicNames(SphinxTransform):
    """Make a link of each public name that stands in code type."""

    default_priority = 5

    def apply(self, **_options: object) -> None:
        for literal in list(self.document.findall(nodes.literal)):
            target = LINKED.get(literal.astext().removesuffix("()"))
            if target is None or isinstance(literal.parent, nodes.reference | nodes.title | pending_xref):
                continue
            link = pending_xref("", refdomain="py", reftype="obj", reftarget=target, refwarn=True)
            link["refdoc"] = self.env.docname
            link["py:module"] = link["py:class"] = None
            literal.replace_self(link)
            link += literal


def resolve(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.TextElement
) -> nodes.reference | None:
    """Find what a signature means: a public name by its private home, or one of the standard library."""
    if node.get("refdomain") != "py":
        return None
    module, _, name = node["reftarget"].rpartition(".")
    if module.startswith("aioalphapoint") and name in PUBLIC and node["reftarget"] != PUBLIC[name]:
        domain = env.domains.python_domain
        return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", PUBLIC[name], node, content)
    if module in STANDARD_LIBRARY:
        address = f"https://docs.python.org/3/library/{module}.html#{module}.{name}"
        return nodes.reference("", "", content, internal=False, refuri=address)
    return None


def shorten_signature(
    _app: Sphinx, what: str, _name: str, value: object, _options: object, arguments: str | None, returned: str | None
) -> tuple[str | None, str | None]:
    """Leave out how values are made that only the library makes; say of a context manager that it is one."""
    if what in {"class", "exception"} and inspect.isclass(value) and not is_made_by_users(value):
        return "", None
    code = getattr(value, "__code__", None)
    if code is not None and code.co_filename.endswith("contextlib.py") and returned:
        return arguments, returned.replace("AsyncIterator", "AbstractAsyncContextManager", 1).replace(
            "Iterator", "AbstractContextManager", 1
        )
    return arguments, returned


def is_made_by_users(value: type) -> bool:
    """Whether the reference is to show how one makes such a value."""
    return "Args:" in (value.__doc__ or "") or value.__name__ in MADE_BY_USERS


MADE_BY_USERS: ClassVar[set[str]] = {"ApiKey", "Backoff", "Password", "SessionToken"}


def setup(app: Sphinx) -> None:
    """Take part in the build."""
    app.add_transform(LinkPublicNames)
    app.connect("missing-reference", resolve)
    app.connect("autodoc-process-signature", shorten_signature)
