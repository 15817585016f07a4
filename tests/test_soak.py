"""The soak's minute. It was started before the first of the other tests, ran beside them, and is looked at last."""

import faulthandler

from chaos.beside import Beside


def test_a_client_under_load_and_outages_does_not_grow(beside: dict[str, Beside]) -> None:
    faulthandler.cancel_dump_traceback_later()  # run alone it takes longer than any other test may
    soak = beside["test_soak.py"]
    assert soak.wait(90) == 0, soak.said()
