"""How a docstring becomes a part of the reference: Google style by napoleon, with the types that the code has.

napoleon takes the text before a colon for a type wherever an attribute is documented; here it is a sentence.
"""

from __future__ import annotations

import inspect
import re
import typing

from pydantic import BaseModel
from sphinx.application import Sphinx
from sphinx.ext.napoleon import Config
from sphinx.ext.napoleon.docstring import GoogleDocstring
from sphinx.util.typing import stringify_annotation

import aioalphapoint

__all__ = ["setup"]

# napoleon declares Sphinx's own kind of configuration, and documents that one of these will do.
GOOGLE = typing.cast("typing.Any", Config(napoleon_use_ivar=True))

# Dataclasses whose fields are what one makes them with. All else that has no Args is made by the library alone.
MADE_BY_USERS = {"ApiKey", "Backoff", "Password", "SessionToken"}

Kind: typing.TypeAlias = typing.Literal[
    "module", "class", "exception", "function", "method", "property", "attribute", "data"
]

_ATTRIBUTE = re.compile(r"( {4})(\w+)(: .*)")


def read_docstring(
    app: Sphinx, what: Kind, name: str, value: object, options: dict[str, bool], lines: list[str]
) -> None:
    """Turn a docstring into reStructuredText, in place."""
    if what in {"class", "exception"} and inspect.isclass(value):
        _tell_types(value, lines)
    _fence_code(lines)
    kind: Kind = "method" if what in {"attribute", "data", "property"} else what
    lines[:] = GoogleDocstring(lines[:], GOOGLE, app, kind, name, value, options).lines()


def _fence_code(lines: list[str]) -> None:
    """Say that an indented paragraph is code, as in Markdown: it follows a blank line and a paragraph at the margin."""
    for number in range(len(lines) - 1, 1, -1):
        above = next((line for line in reversed(lines[:number]) if line), "")
        if lines[number].startswith("    ") and not lines[number - 1] and not above.startswith(" "):
            lines[number:number] = ["::", ""]


def _tell_types(value: type, lines: list[str]) -> None:
    """Write the types of the attributes into their section, and name those that speak for themselves."""
    types = _types_of(value)
    start = lines.index("Attributes:") if "Attributes:" in lines else len(lines)
    for number, line in enumerate(lines[start:], start):
        found = _ATTRIBUTE.match(line)
        if found is not None and found[2] in types:
            lines[number] = f"{found[1]}{found[2]} ({types.pop(found[2])}){found[3]}"
    if issubclass(value, BaseModel):
        head = [] if start < len(lines) else ["", "Attributes:"]
        rest = [f"    {name} ({shown}): As the exchange wrote it." for name, shown in types.items()]
        while lines and not lines[-1]:
            lines.pop()
        lines += [*head, *rest, ""]


def _types_of(value: type) -> dict[str, str]:
    known = vars(aioalphapoint)  # errors.py imports some of it for the type checker alone
    hints = typing.get_type_hints(value, localns=known)
    if issubclass(value, BaseModel):
        hints = {name: hints[name] for name in value.model_fields}
    if issubclass(value, Exception):
        hints |= typing.get_type_hints(value.__init__, localns=known)
    return {name: stringify_annotation(hint, "smart") for name, hint in hints.items()}


def shorten_signature(
    _app: Sphinx, what: str, _name: str, value: object, _options: object, arguments: str | None, returned: str | None
) -> tuple[str | None, str | None]:
    """Leave out how values are made that only the library makes; say of a context manager that it is one."""
    if what in {"class", "exception"} and inspect.isclass(value) and not _is_made_by_users(value):
        return "", None
    code = getattr(value, "__code__", None)
    if code is not None and code.co_filename.endswith("contextlib.py") and returned:
        kind = "AbstractAsyncContextManager" if "AsyncIterator" in returned else "AbstractContextManager"
        returned = re.sub(r"\w*Iterator", kind, returned, count=1)
    return arguments, returned


def _is_made_by_users(value: type) -> bool:
    return "Args:" in (value.__doc__ or "") or value.__name__ in MADE_BY_USERS


def setup(app: Sphinx) -> None:
    """Take part in the build."""
    app.connect("autodoc-process-docstring", read_docstring)
    app.connect("autodoc-process-signature", shorten_signature)
