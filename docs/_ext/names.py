"""Links from names: a public name in code type, wherever it stands, and the types in a signature."""

from __future__ import annotations

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.transforms import SphinxTransform

import aioalphapoint
import aioalphapoint.bulk
import aioalphapoint.otel
import aioalphapoint.reconcile
import aioalphapoint.testing

__all__ = ["setup"]

MODULES = (aioalphapoint, aioalphapoint.bulk, aioalphapoint.otel, aioalphapoint.reconcile, aioalphapoint.testing)
PUBLIC = {name: f"{module.__name__}.{name}" for module in MODULES for name in module.__all__}
# A method's name says whose it is where it is two words: `cancel_withdraw`, not `call`.
METHODS = [name for name in dir(aioalphapoint.Client) if "_" in name and not name.startswith("_")]
LINKED = {name: f"aioalphapoint.Client.{name}" for name in METHODS} | PUBLIC

# Modules that have a page of their own in Python's documentation.
STANDARD_LIBRARY = {"asyncio", "collections", "collections.abc", "contextlib", "datetime", "decimal", "enum", "os"}
STANDARD_LIBRARY |= {"pathlib", "random", "ssl", "uuid"}


class LinkPublicNames(SphinxTransform):
    """Make a link of each public name that stands in code type."""

    default_priority = 5  # before Sphinx looks for what is to be resolved

    def apply(self, **_options: object) -> None:
        for literal in list(self.document.findall(nodes.literal)):
            target = LINKED.get(literal.astext().removesuffix("()"))
            if target is None or isinstance(literal.parent, nodes.reference | nodes.title | pending_xref):
                continue
            link = pending_xref("", refdomain="py", reftype="obj", reftarget=target, refwarn=True)
            link["refdoc"] = self.env.docname
            literal.replace_self(link)
            link += literal


def resolve(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.TextElement
) -> nodes.reference | None:
    """Find what a type means: a public name by its private home, or one of the standard library."""
    if node.get("refdomain") != "py":
        return None
    module, _, name = node["reftarget"].rpartition(".")
    if module.startswith("aioalphapoint") and PUBLIC.get(name, node["reftarget"]) != node["reftarget"]:
        domain = env.domains.python_domain
        return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", PUBLIC[name], node, content)
    if module in STANDARD_LIBRARY:
        address = f"https://docs.python.org/3/library/{module}.html#{module}.{name}"
        return nodes.reference("", "", content, internal=False, refuri=address)
    return None


def setup(app: Sphinx) -> None:
    """Take part in the build."""
    app.add_transform(LinkPublicNames)
    app.connect("missing-reference", resolve)
