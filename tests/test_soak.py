"""The soak's minute: a client under load and outages, in a process of its own, in which nothing may grow."""

import faulthandler

from chaos.programs import run_program


def test_a_client_under_load_and_outages_does_not_grow() -> None:
    faulthandler.cancel_dump_traceback_later()  # it takes longer than any other test may
    # A seed under which a minute has something of everything, refused logins and handshakes too.
    code, said = run_program("chaos.soak", "--seconds", "60", "--seed", "418", "--no-write", seconds=120)
    assert code == 0, said
