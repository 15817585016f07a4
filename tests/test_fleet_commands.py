"""The commands of examples/fleet as programs, on a real PostgreSQL: what they print, and how they end."""

import asyncio
import re
import signal
import time
from collections.abc import AsyncIterator
from contextlib import nullcontext
from pathlib import Path

import psycopg
import pytest

from aioalphapoint.testing import SimulatedExchange
from chaos.fleet import CANCEL, Fleet, away, rows_of
from pages import run_page

READ = "GetWithdrawTicket"
DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture
async def fleet(database: str, tmp_path: Path) -> AsyncIterator[Fleet]:
    async with SimulatedExchange() as exchange:
        yield Fleet(exchange, database, tmp_path, count=40, rate=200)


async def arrived(fleet: Fleet, calls: int, function: str = CANCEL) -> None:
    """Wait until so many calls have arrived."""
    async with asyncio.timeout(30):
        while sum(arrival.function == function for arrival in fleet.exchange.journal) < calls:
            await asyncio.sleep(0.001)


async def stands(fleet: Fleet) -> tuple[dict[str, int], dict[str, int], int]:
    """Count the tickets in each state, the jobs in each, and the workers."""
    async with await psycopg.AsyncConnection.connect(fleet.database) as db:
        jobs = await (await db.execute("SELECT status::text, count(*) FROM procrastinate_jobs GROUP BY 1")).fetchall()
        ((workers,),) = await (await db.execute("SELECT count(*) FROM fleet_workers")).fetchall()
        return dict(fleet.states(await rows_of(db))), dict(jobs), workers


async def tables(fleet: Fleet) -> list[str]:
    async with await psycopg.AsyncConnection.connect(fleet.database) as db:
        found = await db.execute("SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace")
        return [name for (name,) in await found.fetchall()]


async def test_the_commands_from_the_list_to_the_last_ticket(fleet: Fleet) -> None:
    assert await fleet.run("status") == (
        0,
        "todo 0   sent 0   done 0   refused 0   unknown 0\n"
        "0 workers at work, 0.0 tickets a second, nothing was submitted\n",
        "",
    )
    assert await fleet.run("submit", fleet.list) == (0, "40 tickets added, 0 were there already\n", "")
    assert await fleet.run("submit", "--failed") == (0, "0 tickets added, 40 were there already\n", "")
    paid = fleet.tickets[0]
    fleet.exchange.set_status(paid.ticket_number, "FullyProcessed")
    async with fleet.working() as worker:
        await fleet.wait_for(39, 30)
        others = [("--rate", "10"), ("--rate", "200", "--heartbeat", "1.5")]
        ends = await asyncio.gather(*(fleet.run("worker", *other) for other in others))
        assert await worker.stopped() == 0
    for (code, out, err), terms in zip(ends, ("10 and 3", "200 and 1.5"), strict=True):
        assert (code, out) == (2, "")
        assert err == (
            f"the fleet works at 200 calls a second with a heartbeat of 0.4 s, not {terms}: "
            "end the other workers first\n"
        )
    code, out, err = await fleet.run("status")
    assert (code, err) == (1, "")
    lines = [line.rstrip() for line in out.splitlines()]
    assert lines[0] == "todo 0   sent 0   done 39   refused 1   unknown 0"
    assert lines[1].startswith("0 workers at work, ")
    assert lines[1].endswith(" tickets a second, nothing left to do")
    assert lines[3:5] == ["1 need a person:", "ticket  account  state    status          why"]
    assert lines[5].split(maxsplit=4) == [
        f"{paid.ticket_number}",
        "7",
        "refused",
        "FullyProcessed",
        "it ended as FullyProcessed, not cancelled",
    ]
    assert await fleet.run("submit", fleet.list) == (0, "0 tickets added, 40 were there already\n", "")
    assert await fleet.run("submit", "--again", fleet.list) == (
        0,
        "1 ticket added or opened, 39 were there already\n",
        "",
    )
    assert await fleet.run("submit", "--oms-id", "2", fleet.list) == (0, "40 tickets added, 0 were there already\n", "")
    assert (await fleet.run("status"))[1].startswith("todo 40   sent 1   done 39   refused 0   unknown 0\n")


async def test_the_page_does_what_it_shows(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (DOCS / "how-to" / "fleet.md").read_text(encoding="utf-8")
    monkeypatch.setenv("FLEET_DATABASE", database)
    monkeypatch.setenv("PYTHONPATH", str(DOCS.parent / "examples"))
    text, count = re.subn("<!-- not run: .* -->", "", page)
    assert count == 3
    await run_page(text, tmp_path)


async def test_a_worker_that_is_told_to_stop_finishes_what_it_has_in_hand(fleet: Fleet) -> None:
    await fleet.submit()
    with fleet.exchange.faults.delay(1.0, CANCEL):
        async with fleet.working() as worker:
            await arrived(fleet, 16)
            assert await worker.stopped() == 0
    assert await stands(fleet) == ({"done": 16, "todo": 24}, {"todo": 24}, 0)


async def test_a_worker_that_is_told_to_stop_while_no_answer_comes_leaves_its_tickets_marked_and_their_jobs_queued(
    fleet: Fleet,
) -> None:
    await fleet.submit()
    with fleet.exchange.faults.mute(CANCEL), fleet.exchange.faults.mute(READ):
        async with fleet.working() as worker:
            await arrived(fleet, 16)
            assert await worker.stopped() == 0
            assert "Traceback" not in worker.said()
    assert await stands(fleet) == ({"sent": 16, "todo": 24}, {"todo": 40}, 0)
    async with fleet.working() as worker:
        await fleet.wait_for(40, 30)
        assert await worker.stopped() == 0
    assert set(fleet.arrivals().values()) <= {"CR", "CRR"}  # nothing was sent again


async def test_a_worker_that_is_told_to_stop_before_it_is_at_work_ends_at_once(fleet: Fleet) -> None:
    await fleet.submit()
    with fleet.exchange.faults.mute():
        async with fleet.working() as worker:
            await arrived(fleet, 1, "AuthenticateUser")
            assert await worker.stopped() == -signal.SIGTERM
    assert await stands(fleet) == ({"todo": 40}, {"todo": 40}, 1)  # whom the others take for dead soon


async def test_a_worker_keeps_no_more_of_the_limits_record_than_counts(fleet: Fleet) -> None:
    await fleet.submit()
    async with fleet.working(), asyncio.timeout(30):
        await fleet.wait_for(40, 30)
        async with await psycopg.AsyncConnection.connect(fleet.database, autocommit=True) as db:
            while await (await db.execute("SELECT count(*) FROM ratelimit___fleet")).fetchall() != [(0,)]:
                await asyncio.sleep(0.1)


async def test_a_worker_whose_login_is_refused_says_so_in_a_sentence_and_touches_no_ticket(fleet: Fleet) -> None:
    await fleet.submit()
    code, out, err = await fleet.run("worker", "--rate", "10", password="a wrong one")
    assert (code, out) == (1, "")
    assert err.splitlines()[-1].startswith("no session with the exchange: the exchange refused the login")
    assert "Traceback" not in err
    assert fleet.not_cancelled() == [ticket.ticket_number for ticket in fleet.tickets]
    assert (await fleet.run("status"))[1].splitlines()[1].startswith("0 workers")


@pytest.mark.parametrize("is_away", [False, True], ids=["at work", "while PostgreSQL is away"])
async def test_a_worker_whose_login_is_refused_later_ends_and_says_so(
    fleet: Fleet, server: str, *, is_away: bool
) -> None:
    await fleet.submit()
    async with fleet.working() as worker:
        await fleet.wait_for(40, 30)
        with (
            away(server, fleet.database) if is_away else nullcontext(),
            fleet.exchange.faults.refuse_login(),
        ):
            await fleet.exchange.cut_now()
            assert await worker.ended(20) == 1
        said = worker.said()
    last = said.splitlines()[-1]
    assert last.startswith("no session with the exchange: ")
    assert "the exchange refused the login" in last
    assert "Traceback" not in said


async def test_a_worker_that_was_taken_for_dead_by_others_who_work_on_other_terms_ends(fleet: Fleet) -> None:
    async with fleet.working() as worker:
        async with asyncio.timeout(30):
            while "at work" not in worker.said():
                await asyncio.sleep(0.01)
        async with await psycopg.AsyncConnection.connect(fleet.database) as db:
            await db.execute("DELETE FROM fleet_workers")
            await db.execute(
                "INSERT INTO fleet_workers VALUES (gen_random_uuid(), 10, 3, clock_timestamp() + interval '1 minute')"
            )
        assert await worker.ended() == 2
        assert worker.said().splitlines()[-1].startswith("the fleet works at 10 calls a second with a heartbeat of 3 s")
        assert "Traceback" not in worker.said()


async def test_a_worker_waits_for_a_database_that_is_away_and_keeps_its_session(fleet: Fleet, server: str) -> None:
    async with fleet.working() as worker:
        async with asyncio.timeout(30):
            while "at work" not in worker.said():
                await asyncio.sleep(0.01)
            with away(server, fleet.database):
                while "procrastinate cannot work" not in worker.said():
                    await asyncio.sleep(0.01)
        await fleet.submit()
        await fleet.wait_for(40, 30)
        assert await worker.stopped() == 0
        assert "Traceback" not in worker.said()
    assert [arrival.function for arrival in fleet.exchange.journal].count("AuthenticateUser") == 1


async def test_bad_input_is_a_sentence_and_touches_nothing(fleet: Fleet, tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n")
    (tmp_path / "bare.csv").write_text("292\n293\n")
    commands: list[tuple[list[str | Path], str]] = [
        (["submit"], "give a list of tickets, or --failed"),
        (["submit", tmp_path / "none"], f"cannot read {tmp_path / 'none'}: No such file or directory"),
        (["submit", tmp_path], f"cannot read {tmp_path}: Is a directory"),
        (["submit", tmp_path / "bad.csv"], "bad.csv must be CSV whose first line names a column ticket_number"),
        (
            ["submit", tmp_path / "bare.csv"],
            r"ticket 292 of .*bare\.csv must have an account_id from 1 to .*, not none\n",
        ),
        (["submit", "--oms-id", "2147483648", fleet.list], "Invalid value for '--oms-id'"),
        (["status", "--most", "9" * 20], "Invalid value for '--most'"),
        (["worker", "--rate", "0"], "Invalid value for '--rate'"),
        (["worker", "--rate", "many"], "Invalid value for '--rate'"),
        (["worker", "--rate", "10", "--lease", "0"], "Invalid value for '--lease'"),
        (["worker", "--rate", "10", "--concurrency", "1000000"], "Invalid value for '--concurrency'"),
    ]
    ends = await asyncio.gather(*(fleet.run(*command) for command, _ in commands))
    for (_, words), (code, out, err) in zip(commands, ends, strict=True):
        assert (code, out) == (2, "")
        assert re.search(words, err), err
        assert "Traceback" not in err
    code, _, err = await fleet.run("worker", "--rate", "10", password="")
    assert (code, err) == (2, "ALPHAPOINT_PASSWORD must be set beside ALPHAPOINT_USER_NAME\n")
    assert (await fleet.run("status"))[1].splitlines()[1].endswith("nothing was submitted")
    assert await tables(fleet) == []
    assert len(fleet.exchange.journal) == 0


async def test_without_a_database_each_command_says_so_at_once(fleet: Fleet) -> None:
    fleet.database = psycopg.conninfo.make_conninfo(fleet.database, port=1)
    began = time.monotonic()
    commands: list[list[str | Path]] = [["status"], ["submit", fleet.list], ["worker", "--rate", "10"]]
    for code, out, err in await asyncio.gather(*(fleet.run(*command) for command in commands)):
        assert (code, out) == (3, "")
        assert err.startswith("cannot connect to PostgreSQL: ")
        assert len(err.splitlines()) == 1
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    "address",
    ["postgresql:/fleet:secret@db/fleet", "host=db password = se cret", "postgresql://fleet:half@secret@db/fleet"],
)
async def test_an_address_that_is_none_is_refused_without_a_word_of_the_password(fleet: Fleet, address: str) -> None:
    fleet.database = address
    code, out, err = await fleet.run("status")
    assert (code, out) == (2, "")
    assert err == "the database's address must be as libpq takes it, such as postgresql://fleet@db.internal/fleet\n"


async def test_who_may_only_read_sees_how_it_stands_and_hears_that_the_rest_is_not_allowed(
    fleet: Fleet, database: str
) -> None:
    await fleet.submit()
    with psycopg.connect(database, autocommit=True) as db:
        name = f"reader_{db.info.dbname}"
        db.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'secret'".encode())
        try:
            db.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {name}".encode())
            fleet.database = psycopg.conninfo.make_conninfo(database, user=name, password="secret")
            assert (await fleet.run("status"))[::2] == (0, "")
            for command in (("submit", fleet.list), ("worker", "--rate", "10")):
                code, out, err = await fleet.run(*command)
                assert (code, out) == (3, "")
                assert err.startswith("PostgreSQL: permission denied for ")
                assert len(err.splitlines()) == 1
        finally:
            db.execute(f"DROP OWNED BY {name}".encode())
            db.execute(f"DROP ROLE {name}".encode())
    assert len(fleet.exchange.journal) == 0
