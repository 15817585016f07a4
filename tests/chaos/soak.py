"""The soak: a client at 50 calls a second for an hour, with an outage every 30 s, in which nothing may grow.

`python -m chaos.soak --seconds 3600 --seed 1` prints what it saw, and writes it into the documentation. The client
runs in a process of its own (`soak_client.py`); the exchange, whose tickets grow by design, and the proxy run here.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import platform
import random
import shlex
import sys
import tempfile
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import IO

from aioalphapoint.testing import SimulatedExchange

from .outages import outages
from .programs import TESTS, environment
from .proxy import Proxy
from .soak_client import (
    LISTED,
    LISTED_CODE,
    MOVING,
    OPERATOR,
    TICKETS,
    TOTP_SECRET,
    code_of,
    is_failed,
)
from .soak_report import Report
from .table import Line, markdown
from .weather import Weather
from .witness import Witness

__all__ = ["soak"]

_PROOF = TESTS.parent / "docs/proof/soak.md"

_HOUR = 3600.0  # seconds


async def soak(seed: int, seconds: float, report: Report | None = None) -> Line:
    """Let a client work, and look at what it keeps.

    Args:
        seed: Decides what is called and what goes wrong.
        seconds: How long. Less than half an hour is a short soak, in which outages come closer together, and more
            memory may be taken.
        report: Where to put what it saw in full.
    """
    report = Report(seconds) if report is None else report
    async with Witness() as exchange, Proxy(exchange.url) as proxy:
        exchange.add_user(OPERATOR.user_name, OPERATOR.password, permissions=["Operator"], totp_secret=TOTP_SECRET)
        listed = [exchange.add_withdraw(account_id=LISTED, amount="1", request_code=LISTED_CODE)]
        listed += [exchange.add_withdraw(account_id=LISTED, amount="1") for _ in range(19)]
        first = listed[-1].ticket_number + 1
        weather = Weather(exchange, proxy, random.Random(seed), is_tls=False, has_token=True)
        with tempfile.TemporaryDirectory() as folder:
            arguments = [proxy.url, seed, seconds, first, f"{folder}/journal"]
            async with _running(_add_tickets(exchange, first)):
                await _watch(["chaos.soak_client", *map(str, arguments)], weather, report)
    return report.line(seed)


async def _add_tickets(exchange: SimulatedExchange, first: int) -> None:
    """Keep some seconds ahead of the client with tickets to cancel."""
    loop = asyncio.get_running_loop()
    began, added = loop.time(), 0
    while True:
        exchange.journal.clear()  # nobody reads it here
        while added < (loop.time() - began + 10) * TICKETS:
            number = first + added
            exchange.add_withdraw(
                account_id=MOVING,
                amount="1",
                status="Failed" if is_failed(number) else "Pending",
                request_code=code_of(number),
            )
            added += 1
        await asyncio.sleep(1)


async def _watch(command: Sequence[str], weather: Weather, report: Report) -> None:
    with tempfile.TemporaryFile() as stderr:
        async with _program(command, stderr) as client:
            assert client.stdout is not None
            report.hear(await client.stdout.readline())  # it is connected
            async with _running(outages(weather, report.pauses(), report.outages)):
                async for line in client.stdout:
                    report.hear(line)
            await client.wait()
        stderr.seek(0)
        report.complaints = stderr.read().decode(errors="replace")


@asynccontextmanager
async def _program(command: Sequence[str], stderr: IO[bytes]) -> AsyncIterator[asyncio.subprocess.Process]:
    python = [sys.executable, "-W", "always", "-m"]
    program = await asyncio.create_subprocess_exec(
        *python, *command, cwd=TESTS, env=environment(), stdout=asyncio.subprocess.PIPE, stderr=stderr
    )
    try:
        yield program
    finally:
        if program.returncode is None:
            program.kill()
        await program.communicate()


@asynccontextmanager
async def _running(work: Coroutine[object, None, None]) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):  # else it ended by an error of its own
            await task


def main(arguments: Sequence[str]) -> int:
    """Soak, and say by the exit code whether the line holds."""
    parser = argparse.ArgumentParser(prog="python -m chaos.soak", description="Let a client work, and see it not grow.")
    parser.add_argument("--seconds", type=float, default=_HOUR, help="how long (%(default)g)")
    parser.add_argument("--seed", type=int, default=1, help="what decides (%(default)s)")
    parser.add_argument(
        "--write", action=argparse.BooleanOptionalAction, default=True, help="write it into the documentation"
    )
    options = parser.parse_args(arguments)
    report = Report(options.seconds)
    line = asyncio.run(soak(options.seed, options.seconds, report))
    command = shlex.join(["python", "-m", "chaos.soak", *arguments])
    page = "\n".join(
        [
            f"Seen on {datetime.now(UTC):%Y-%m-%d} with Python {platform.python_version()} on {os.cpu_count()} cores "
            f"by `{command}` in `tests/`.\n",
            markdown([line]),
            report.details(),
        ]
    )
    print(page)
    if options.write:
        _PROOF.parent.mkdir(exist_ok=True)
        _PROOF.write_text(page, encoding="utf-8")
    return 0 if line.holds else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
