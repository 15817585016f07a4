"""The campaign against the fleet, in small."""

import faulthandler
import os

import pytest

from chaos.fleet import NO_POSTGRES
from chaos.programs import run_program


def test_a_fleet_under_fire_cancels_every_ticket_and_none_twice_unread() -> None:
    faulthandler.cancel_dump_traceback_later()  # it takes longer than any other test may
    code, said = run_program("chaos.fleet", "--tickets", "150", "--kill-every", "1.5", seconds=150)
    if code == NO_POSTGRES and not os.environ.get("CI"):
        pytest.skip(said)
    assert code == 0, said
