"""The tests' own PostgreSQL: it ends with whoever started it, however that one ends."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from postgres import NoPostgres, running_postgres

DYING = """
import os
from postgres import running_postgres
with running_postgres() as server:
    print(server.url, server._folder, flush=True)
    os._exit(1)
"""


async def gone(url: str, folder: Path) -> bool:
    """Wait until nothing is left of its folder, and tell whether nobody is there."""
    async with asyncio.timeout(20):
        while folder.exists():
            await asyncio.sleep(0.05)
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return True
    return False


async def test_a_server_ends_at_the_end_of_its_block_and_with_a_process_that_dies_in_it() -> None:
    try:
        with running_postgres() as server:
            psycopg.connect(server.url).close()
    except NoPostgres as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    assert not server._folder.exists()
    assert await gone(server.url, server._folder)
    command = [sys.executable, "-c", DYING]
    died = await asyncio.to_thread(
        subprocess.run, command, cwd=Path(__file__).parent, stdout=subprocess.PIPE, text=True, check=False, timeout=60
    )
    assert died.returncode == 1
    url, folder = died.stdout.split()
    assert await gone(url, Path(folder))
