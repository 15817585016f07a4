"""The campaign against the fleet, in small: it was started first, ran beside the other tests, and is looked at last."""

import faulthandler
import os

import pytest

from chaos.beside import Beside
from chaos.fleet import NO_POSTGRES


def test_a_fleet_under_fire_cancels_every_ticket_and_none_twice_unread(beside: dict[str, Beside]) -> None:
    faulthandler.cancel_dump_traceback_later()  # run alone it takes longer than any other test may
    fleet = beside["test_fleet_under_fire.py"]
    code = fleet.wait(120)
    if code == NO_POSTGRES and not os.environ.get("CI"):
        pytest.skip(fleet.said())
    assert code == 0, fleet.said()
