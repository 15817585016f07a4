"""The `aioalphapoint` command. It needs the `cli` extra; the library does not."""

from __future__ import annotations

import os
import sys

__all__ = ["main"]


def main() -> None:
    """Run the command, or say what to install."""
    try:
        from ._app import app  # noqa: PLC0415  (the extra may not be installed)
    except ModuleNotFoundError as error:
        if error.name not in ("rich", "typer"):
            raise
        sys.stderr.write(f"The command needs the package {error.name}: pip install 'aioalphapoint[cli]'\n")
        raise SystemExit(2) from None
    try:
        app()
    except OSError as error:  # a port that is taken, an output that takes no more
        sys.stderr.write(f"{os.strerror(error.errno) if error.errno else error}\n")
        raise SystemExit(1) from None
