"""The `aioalphapoint` command. It needs the `cli` extra; the library does not."""

from __future__ import annotations

import os
import sys

__all__ = ["main"]

_EXTRA = frozenset({"aiolimiter", "dotenv", "pyotp", "rich", "typer"})  # what the extra brings, as it is imported


def main() -> None:
    """Run the command, or say what to install."""
    try:
        from ._app import app, usage_error  # noqa: PLC0415  (the extra may not be installed)
        from .screen import drop_output  # noqa: PLC0415  (likewise)
    except ModuleNotFoundError as error:
        if error.name not in _EXTRA:
            raise
        sys.stderr.write(f"The command needs the package {error.name}: pip install 'aioalphapoint[cli]'\n")
        raise SystemExit(2) from None
    try:
        raise SystemExit(app(standalone_mode=False))
    except usage_error as error:
        sys.stderr.write(f"{error.format_message()} (--help tells more)\n")
        raise SystemExit(2) from None
    except OSError as error:  # a port that is taken, an output that takes no more
        drop_output()
        sys.stderr.write(f"{os.strerror(error.errno) if error.errno else error}\n")
        raise SystemExit(1) from None
