"""What a call costs, counted and not timed: a change that makes calls slower shows here on any machine."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent

# Bytecode instructions that a call takes its caller, without the event loop's. Seen: 1202 and 1096 on Python 3.11, a
# tenth less on 3.13. A Python function that is called once more takes some ten to forty.
MOST = 1220

# Bytes that a call takes while it waits, beyond those of a task that waits for a future. Seen: 1,022 on Python 3.11,
# 998 on 3.13, 1,125 on 3.14.
MOST_BYTES = 1070 if sys.version_info < (3, 14) else 1180


def told(what: str, calls: int) -> tuple[int, str]:
    """Run the program, without coverage, which costs something too."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    program = [sys.executable, "costs.py", what, str(calls)]
    told = subprocess.run(program, cwd=TESTS, env=environment, capture_output=True, text=True, check=True, timeout=60)
    total, _, by_function = told.stdout.partition("\n")
    return int(total), by_function


@pytest.mark.skipif(
    sys.version_info[:3] == (3, 12, 1), reason="Python 3.12.1 counts no instructions for a trace function"
)
@pytest.mark.parametrize("in_flight", [1, 100])
def test_a_call_takes_no_more_instructions_than_it_did(in_flight: int) -> None:
    total, by_function = told("instructions", in_flight)
    assert 500 < total < MOST, by_function


def test_a_call_that_waits_holds_next_to_nothing_but_itself() -> None:
    held, _ = told("held", 1000)
    assert 500 < held < MOST_BYTES
