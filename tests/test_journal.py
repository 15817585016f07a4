"""The journal: on disk before the deed, one run at a time for each ticket, and clear words when it cannot be."""

import asyncio
import contextlib
import os
import random
import sqlite3
import stat
import sys
from pathlib import Path

import pytest
from websockets.asyncio.server import ServerConnection

from aioalphapoint import Client, JournalError, Password, WithdrawTicket
from aioalphapoint._journal import Run
from aioalphapoint._steps import Claim, Entry, Key, Step
from aioalphapoint.bulk import Journal, cancel_failed_tickets, cancel_withdraws
from aioalphapoint.testing import SimulatedExchange
from conftest import ALICE
from scripted import reply, scripted
from wire import CODE, TICKET_ROW

KEY = Key("CancelWithdraw", f"1/7/{CODE}")


def key(number: int) -> Key:
    return Key("CancelFailedWithdrawTicket", f"1/{number}")


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal")


def steps(journal: Journal) -> list[str]:
    return [str(entry.step) for entry in journal.entries()]


async def test_a_step_is_on_disk_before_the_frame_is_sent_and_after_the_answer(journal: Journal) -> None:
    seen: list[tuple[bool, list[str]]] = []

    async def script(socket: ServerConnection) -> None:
        async for request in socket:
            is_cancel = "CancelFailedWithdrawTicket" in str(request)
            seen.append((is_cancel, steps(journal)))  # by a connection of its own, as another process would
            row = TICKET_ROW.replace("Pending", "AdminCanceled")
            await socket.send(reply(request) if is_cancel else reply(request, row))

    ticket = WithdrawTicket(ticket_number=292, account_id=7, request_code=CODE)
    async with scripted(script) as url, Client(url) as client:
        outcomes = await cancel_failed_tickets(client, [ticket], journal=journal)
    assert [outcome.state for outcome in outcomes] == ["confirmed"]
    assert seen == [(True, ["sent"]), (False, ["accepted"])]
    assert steps(journal) == ["confirmed"]


async def test_each_step_of_a_run_stands_there_before_the_next(
    exchange: SimulatedExchange, client: Client, journal: Journal
) -> None:
    ticket = exchange.add_withdraw(account_id=7, amount="1")
    with exchange.faults.mute():
        run = asyncio.create_task(cancel_withdraws(client, [ticket], journal=journal, timeout=0.3))
        while not any(arrival.function == "CancelWithdraw" for arrival in exchange.journal):
            await asyncio.sleep(0.001)
        assert steps(journal) == ["sent"]  # the frame has arrived; its answer will not
        while steps(journal) == ["sent"]:
            await asyncio.sleep(0.001)
        assert steps(journal) == ["unknown"]
    (outcome,) = await run
    assert outcome.state == "confirmed"
    (entry,) = journal.entries()
    assert entry.key == Key("CancelWithdraw", f"1/7/{ticket.request_code}")
    assert (entry.step, entry.status, entry.error, entry.code) == ("confirmed", "UserCanceled", None, None)
    assert entry.changed.endswith("Z")


async def test_a_claim_is_one_runs_alone_until_that_run_ends(journal: Journal) -> None:
    async with journal.run() as first, journal.run() as second:
        assert await first.claim(KEY) == (Claim.SEND, None)
        claim, entry = await second.claim(KEY)
        assert claim is Claim.BUSY
        assert entry is not None
        assert entry.step is Step.SENT
        await first.record(Entry(KEY, Step.UNKNOWN, error="CallTimeout"))
        assert (await second.claim(KEY))[0] is Claim.BUSY
    async with journal.run() as third, journal.run() as fourth:
        assert (await third.claim(KEY))[0] is Claim.READ
        assert (await fourth.claim(KEY))[0] is Claim.BUSY  # two must not read it, and then both send it
        for step in (Step.ACCEPTED, Step.CONFIRMED, Step.REFUSED):
            await third.record(Entry(KEY, step))
            assert (await fourth.claim(KEY))[0] is Claim.DONE
        await third.record(Entry(KEY, Step.NOT_SENT))
        assert (await fourth.claim(KEY))[0] is Claim.SEND
        assert (await third.claim(KEY))[0] is Claim.BUSY


async def test_a_thousand_claims_of_two_runs_at_once_are_each_granted_once(journal: Journal) -> None:
    keys = [key(number) for number in range(1000)]

    async def claim_all(run: Run) -> set[int]:
        claims = await asyncio.gather(*(run.claim(key) for key in keys))
        return {number for number, (claim, _) in enumerate(claims) if claim is Claim.SEND}

    async with journal.run() as first, journal.run() as second:
        mine, theirs = await asyncio.gather(claim_all(first), claim_all(second))
    assert mine | theirs == set(range(1000))
    assert not mine & theirs
    assert steps(journal) == ["sent"] * 1000


async def test_a_run_leaves_one_file_for_its_owner_alone(tmp_path: Path, journal: Journal) -> None:
    async with journal.run() as run:
        await run.claim(KEY)
        assert {path.name.split("-")[1] for path in tmp_path.iterdir() if path.name != "journal"} == {
            "wal",
            "shm",
            "run1",
        }
        modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {0o600}
    assert [path.name for path in tmp_path.iterdir()] == ["journal"]
    assert steps(journal) == ["sent"]
    assert repr(journal) == f"Journal({str(tmp_path / 'journal')!r})"


async def test_it_is_in_wal_mode_and_waits_for_the_disk(journal: Journal) -> None:
    async with journal.run() as run:
        assert run._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert run._db.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL: safe when the power fails, too


async def test_begun_by_many_at_once_it_is_made_once(journal: Journal) -> None:
    async def run(number: int) -> None:
        async with journal.run() as run:
            await run.claim(key(number))

    for _ in range(3):
        await asyncio.gather(*(run(number) for number in range(12)))
        assert len(journal.entries()) == 12
        journal.path.unlink()


async def test_whoever_is_cancelled_while_waiting_for_the_disk_is_in_nobodys_way(journal: Journal) -> None:
    async with journal.run() as run:
        for number in range(20):
            keys = [key(10 * number + place) for place in range(10)]
            claims = [asyncio.ensure_future(run.claim(key)) for key in keys]
            for _ in range(number):
                await asyncio.sleep(0)
            claims[0].cancel()
            assert [claim for claim, _ in await asyncio.gather(*claims[1:])] == [Claim.SEND] * 9
        assert (await run.claim(key(1000)))[0] is Claim.SEND


async def test_a_claim_whose_asker_is_cancelled_before_its_turn_is_not_made_and_a_record_is(journal: Journal) -> None:
    async with journal.run() as run:
        await run.claim(key(1))
        with contextlib.closing(sqlite3.connect(journal.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            first = asyncio.ensure_future(run.claim(key(2)))
            await asyncio.sleep(0.05)  # it is with the disk; what comes now waits
            late = [
                asyncio.ensure_future(run.claim(key(3))),
                asyncio.ensure_future(run.record(Entry(key(1), Step.ACCEPTED))),
            ]
            await asyncio.sleep(0)
            for task in late:
                task.cancel()
            await asyncio.wait(late)
            other.execute("ROLLBACK")
        assert (await first)[0] is Claim.SEND
    found = {entry.key: str(entry.step) for entry in journal.entries()}
    assert found == {key(1): "accepted", key(2): "sent"}


async def test_nobody_writes_over_what_another_run_has_written_but_that_a_ticket_was_seen_cancelled(
    journal: Journal,
) -> None:
    async with journal.run() as mine, journal.run() as other:
        for step in (Step.SENT, Step.ACCEPTED, Step.REFUSED):
            await mine.claim(KEY)
            await mine.record(Entry(KEY, step))
            for untrue in (Step.UNKNOWN, Step.REFUSED, Step.ACCEPTED, Step.NOT_SENT):
                await other.record(Entry(KEY, untrue, error="another's"))
            (entry,) = journal.entries()
            assert (entry.step, entry.error) == (step, None)
        await other.record(Entry(KEY, Step.CONFIRMED))
        await mine.record(Entry(KEY, Step.ACCEPTED))
        assert steps(journal) == ["confirmed"]
        await other.record(Entry(key(9), Step.UNKNOWN))  # nor is anything begun without a claim
        assert len(journal.entries()) == 1


async def test_a_step_of_a_later_version_is_named(journal: Journal) -> None:
    async with journal.run() as run:
        await run.claim(KEY)
        run._db.execute("UPDATE ticket SET step = 'later'")
        for reading in (run.claim(KEY), run.known([KEY])):
            with pytest.raises(JournalError, match="a step that this version does not know: later"):
                await reading
        with pytest.raises(JournalError, match="a step that this version does not know: later"):
            journal.entries()


def broken(path: Path) -> None:
    path.write_bytes(b"no database" * 1000)


def foreign(path: Path) -> None:
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE ticket (id)")
    db.close()


def pipe(path: Path) -> None:
    os.mkfifo(path, 0o666)
    path.chmod(0o666)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (pipe, "cannot open the journal .*: it is no file that is kept"),
        (broken, "cannot open the journal .*: file is not a database"),
        (foreign, "is an SQLite file of something else, no journal of aioalphapoint"),
        (Path.mkdir, "cannot open the journal .*: it is a folder"),
    ],
)
async def test_a_file_that_is_no_journal_is_refused_before_anything_is_sent_and_left_as_it_is(
    exchange: SimulatedExchange, client: Client, journal: Journal, make: object, words: str
) -> None:
    make(journal.path)  # type: ignore[operator]  # one of three functions
    mode = journal.path.stat().st_mode
    before = journal.path.read_bytes() if journal.path.is_file() else None
    ticket = exchange.add_withdraw(account_id=7, amount="1")
    sent = client.stats.sent
    with pytest.raises(JournalError, match=words):
        await cancel_withdraws(client, [ticket], journal=journal)
    assert client.stats.sent == sent
    assert before is None or journal.path.read_bytes() == before
    assert before is not None or journal.path.stat().st_mode == mode
    with pytest.raises(JournalError):
        journal.entries()


async def test_a_folder_that_is_not_there_is_named(client: Client, tmp_path: Path) -> None:
    journal = Journal(tmp_path / "nowhere" / "journal")
    with pytest.raises(
        JournalError, match=f"cannot open the journal {journal.path}: there is no folder {journal.path.parent}"
    ):
        await cancel_withdraws(client, [], journal=journal)
    with pytest.raises(JournalError, match="cannot read the journal"):
        journal.entries()


async def test_a_journal_that_is_replaced_under_a_run_is_noticed(journal: Journal) -> None:
    async with journal.run():
        for suffix in ("", "-wal", "-shm"):
            Path(f"{journal.path}{suffix}").unlink()
        with pytest.raises(JournalError, match="was replaced while a run was writing to it"):
            async with journal.run():
                pytest.fail("two runs of the same number")


async def test_another_process_that_holds_the_file_for_too_long_is_a_clear_error(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aioalphapoint._journal._BUSY_TIMEOUT", 0.1)
    async with journal.run() as first:
        blocker = sqlite3.connect(journal.path, isolation_level=None)
        blocker.execute("BEGIN IMMEDIATE")
        first._db.execute("PRAGMA busy_timeout = 100")
        with pytest.raises(JournalError, match="cannot write the journal .*: database is locked"):
            await first.claim(KEY)
        with pytest.raises(JournalError, match="cannot open the journal .*: database is locked"):
            async with journal.run():
                pytest.fail("it is locked")
        blocker.execute("ROLLBACK")
        blocker.close()
        assert (await first.claim(KEY))[0] is Claim.SEND


async def test_no_secret_and_no_word_of_the_exchange_stands_in_it(
    exchange: SimulatedExchange, journal: Journal, tmp_path: Path
) -> None:
    """An exchange that says the password back, as the detail of its refusal."""
    tickets = [exchange.add_withdraw(account_id=7, amount="1") for _ in range(3)]
    async with Client(exchange.url, Password(ALICE.user_name, ALICE.password)) as client:
        with exchange.faults.reject(101, ALICE.password, function="CancelWithdraw"):
            await cancel_withdraws(client, tickets[:1], journal=journal)
        await cancel_withdraws(client, tickets[1:], journal=journal)
        async with journal.run() as run:  # while it lasts, the companions are there too
            await run.known([KEY])
            text = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert tickets[0].request_code.encode() in text
    for secret in (ALICE.password, ALICE.user_name, "Token", "Operation Failed"):
        assert secret.encode() not in text
    rows = {(entry.key.ticket, str(entry.step), entry.error, entry.code) for entry in journal.entries()}
    refused, *confirmed = (f"1/7/{ticket.request_code}" for ticket in tickets)
    assert rows == {
        (refused, "refused", "OperationFailed", 101),
        *((ticket, "confirmed", None, None) for ticket in confirmed),
    }


async def test_what_cannot_be_written_is_an_error_and_the_next_is_right(journal: Journal) -> None:
    async with journal.run() as run:
        run._db.execute("PRAGMA query_only = ON")
        with pytest.raises(JournalError, match="cannot write the journal .*: attempt to write a readonly database"):
            await run.claim(KEY)
        run._db.execute("PRAGMA query_only = OFF")
        assert (await run.claim(KEY))[0] is Claim.SEND
    with pytest.raises(JournalError, match="its run has ended"):
        await run.claim(KEY)


async def test_a_writer_that_is_ended_from_outside_leaves_nobody_waiting(journal: Journal, tmp_path: Path) -> None:
    """As when the loop is shut down around it: whoever waits is told, and the files are let go."""
    async with journal.run() as run:
        await run.claim(KEY)
        claims = [asyncio.ensure_future(run.claim(key(number))) for number in range(5)]
        await asyncio.sleep(0)
        (writer,) = [task for task in asyncio.all_tasks() if task.get_name() == "aioalphapoint journal"]
        writer.cancel()
        outcomes = await asyncio.wait_for(asyncio.gather(*claims, return_exceptions=True), 5)
        assert {type(outcome) for outcome in outcomes} == {JournalError}
        with pytest.raises(JournalError, match="its run has ended"):
            await run.claim(KEY)
    assert [path.name for path in tmp_path.iterdir()] == ["journal"]


async def test_by_a_symbolic_link_it_is_the_same_journal(journal: Journal, tmp_path: Path) -> None:
    async with journal.run() as first:
        await first.claim(KEY)
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "elsewhere" / "link").symlink_to(journal.path)
        async with Journal(tmp_path / "elsewhere" / "link").run() as second:
            assert (await second.claim(KEY))[0] is Claim.BUSY


async def test_another_run_of_the_same_process_ends_no_lock_that_other_processes_heed(
    journal: Journal, tmp_path: Path
) -> None:
    """A POSIX lock ends when its process closes any descriptor of the file: nothing here may."""
    program = (
        "import asyncio, sys; from aioalphapoint._steps import Key; from aioalphapoint.bulk import Journal\n"
        "async def main():\n"
        "    async with Journal(sys.argv[1]).run() as run: print((await run.claim(Key(*sys.argv[2:])))[0].name)\n"
        "asyncio.run(main())"
    )

    async def claim_elsewhere() -> str:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, journal.path, *KEY, stdout=asyncio.subprocess.PIPE
        )
        out, _ = await child.communicate()
        return out.decode().strip()

    async with journal.run() as first:
        await first.claim(KEY)
        async with journal.run() as second:  # in the same process: it looks whether the first one lives
            assert (await second.claim(KEY))[0] is Claim.BUSY
        journal.entries()
        assert await claim_elsewhere() == "BUSY"
        assert await claim_elsewhere() == "BUSY"  # nor was the journal taken from under the first one
        assert {"journal-wal", "journal-shm", "journal-run1"} <= {path.name for path in tmp_path.iterdir()}
        await first.record(Entry(KEY, Step.CONFIRMED))
    assert steps(journal) == ["confirmed"]
    assert await claim_elsewhere() == "DONE"


async def test_what_a_run_leaves_that_dies_is_free_while_the_others_go_on(journal: Journal) -> None:
    async with journal.run() as second:
        async with journal.run() as first:
            for number in range(4):
                await first.claim(key(number))
            await first.record(Entry(key(1), Step.REFUSED, code=102))
            await first.record(Entry(key(2), Step.REFUSED, code=101))
            await first.record(Entry(key(3), Step.NOT_SENT))
            claims = [(await second.claim(key(number)))[0] for number in range(4)]
            assert claims == [Claim.BUSY, Claim.DONE, Claim.DONE, Claim.SEND]
        # It is dead, but what it was refused is not asked for again by a run that worked beside it.
        assert [(await second.claim(key(number)))[0] for number in range(3)] == [Claim.READ, Claim.DONE, Claim.DONE]
    async with journal.run() as third:
        assert [(await third.claim(key(number)))[0] for number in range(3)] == [Claim.READ] * 3


@pytest.mark.parametrize("code", [None, 20, 100, 101, 102, 104, 106, 429])
async def test_a_refusal_ends_nothing_whatever_its_code(journal: Journal, code: int | None) -> None:
    async with journal.run() as run:
        await run.claim(KEY)
        await run.record(Entry(KEY, Step.REFUSED, code=code))
        assert (await run.claim(KEY))[0] is Claim.DONE  # in a run a ticket is sent once at most
    async with journal.run() as run:
        claim, entry = await run.claim(KEY)
    assert claim is Claim.READ
    assert entry is not None
    assert (entry.step, entry.code) == (Step.REFUSED, code)


@pytest.mark.parametrize("seed", range(12))
async def test_of_runs_that_were_ever_side_by_side_one_at_most_is_refused_a_ticket(journal: Journal, seed: int) -> None:
    """Runs begin, ask, are refused and end in any order; whoever begins after all the others may ask again."""
    chance = random.Random(seed)
    alive: dict[Run, contextlib.AsyncExitStack] = {}
    beside: dict[Run, set[Run]] = {}
    refused: set[Run] = set()
    asks = 0

    async def begin() -> Run:
        stack = contextlib.AsyncExitStack()
        run = await stack.enter_async_context(journal.run())
        beside[run] = set(alive)
        for other in alive:
            beside[other].add(run)
        alive[run] = stack
        return run

    async def ask(run: Run) -> None:
        claim, _ = await run.claim(KEY)
        is_asked = bool(refused & (beside[run] | {run}))
        assert (claim is Claim.DONE) is is_asked
        if claim is not Claim.DONE:
            refused.add(run)
            await run.record(Entry(KEY, Step.REFUSED, code=chance.choice([101, 102])))

    for _ in range(40):
        match chance.choice(["begin", "ask", "ask", "end"]):
            case "begin" if len(alive) < 4:
                await begin()
            case "ask" if alive:
                asks += 1
                await ask(chance.choice(list(alive)))
            case "end" if alive:
                await alive.pop(chance.choice(list(alive))).aclose()
    for stack in alive.values():
        await stack.aclose()
    alive.clear()
    last = await begin()
    await ask(last)
    assert last in refused
    await alive[last].aclose()
    assert asks > 5


@pytest.mark.parametrize("turns", range(0, 40, 2))
async def test_a_run_that_is_cancelled_at_any_moment_leaves_nothing_in_hand_and_nothing_open(
    tmp_path: Path, journal: Journal, turns: int
) -> None:
    """Cancelled by the task, twice, while it begins, writes, or ends."""

    async def work() -> None:
        async with journal.run() as run:
            await asyncio.gather(*(run.claim(key(number)) for number in range(50)))

    task = asyncio.create_task(work())
    for _ in range(2):
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
    await asyncio.wait({task})
    async with asyncio.timeout(5):
        while len(asyncio.all_tasks()) > 1 or not {path.name for path in tmp_path.iterdir()} <= {"journal"}:
            await asyncio.sleep(0.001)
    async with journal.run() as run:
        assert (await run.claim(KEY))[0] is Claim.SEND
        granted = {(await run.claim(key(number)))[0] for number in range(50)}
        assert granted in ({Claim.SEND}, {Claim.READ})  # one transaction: all or none
