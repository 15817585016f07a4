"""The commands, and what each takes."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer
from rich.console import Console

from .demo import show_demo
from .simulate import run_exchange

__all__ = ["app"]

app = typer.Typer(
    name="aioalphapoint",
    help="Cancel withdrawals on an AlphaPoint exchange.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # `main` says what a user can do about; the rest is a plain traceback
)


@app.callback()
def _root() -> None: ...


@app.command()
def demo() -> None:
    """Watch a real client cancel a withdrawal and a failed ticket, on an exchange inside this process.

    Shows each frame on the wire, each reply, and the tickets before and after; then one refusal.
    """
    asyncio.run(show_demo(Console()))


@app.command()
def simulate(
    port: Annotated[int, typer.Option(min=0, max=65_535, help="The port to listen on; 0 takes a free one.")] = 0,
) -> None:
    """Run the simulated exchange on 127.0.0.1 until Ctrl-C, for any WebSocket client to try.

    Example: aioalphapoint simulate --port 8765
    """
    console = Console()
    try:
        asyncio.run(run_exchange(console, port))
    except KeyboardInterrupt:
        console.print("Stopped.")
