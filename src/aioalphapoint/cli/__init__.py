"""The `aioalphapoint` command. It needs the `cli` extra; the library does not."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

__all__ = ["main"]

_EXTRA = frozenset({"aiolimiter", "dotenv", "pyotp", "rich", "typer"})  # what the extra brings, as it is imported


def _mend_outputs() -> None:
    # Closed by whoever started the command, or of an encoding that knows fewer letters than the exchange: neither
    # may end a run whose cancels are out.
    for name in ("stdout", "stderr"):
        output = getattr(sys, name)
        if output is None:
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115  (as long as the process)
        elif isinstance(output, io.TextIOWrapper):
            output.reconfigure(errors="backslashreplace")


def main() -> None:
    """Run the command, or say what to install."""
    _mend_outputs()
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
        if error.format_message():  # without arguments the help was shown
            sys.stderr.write(f"{error.format_message()} (--help tells more)\n")
        raise SystemExit(2) from None
    except OSError as error:  # a port that is taken, an output that takes no more
        drop_output()
        sys.stderr.write(f"{os.strerror(error.errno) if error.errno else error}\n")
        raise SystemExit(1) from None
