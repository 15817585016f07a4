"""What a bulk run has done with each ticket, on disk before it is done: an SQLite file in WAL mode.

Invariants:

* A ticket's row says `sent` before its frame is handed to the socket, and what came of it afterwards. Whoever dies
  in between leaves `sent` behind: a ticket that has to be read before anything else is done with it.
* Of the runs that work on one file at the same time, in whatever processes, one at most has a ticket in hand.
* Of such runs one at most is refused a ticket: the others take its word for it, though it ends before they ask. A run
  that begins after its end reads the ticket.
* Nothing but SQLite opens these files. A POSIX lock ends when its process closes *any* descriptor of the file, and
  SQLite alone keeps count of that.
* No words of the exchange are written down, and nothing of a login: numbers, GUIDs, steps, statuses, error codes.

A run is alive as long as it holds an SQLite lock on a file of its own beside the journal. The operating system ends
that lock with the process, however it dies; a process number, or a lease with a time to run out, would be a guess.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, TypeVar, cast

import anyio
import anyio.to_thread

from ._steps import Claim, Entry, Key, Step
from .errors import JournalError, quote

__all__ = ["Journal", "Run"]

_APPLICATION_ID = 0x41504A31  # "APJ1": how an SQLite file says whose it is
_BUSY_TIMEOUT = 10.0  # seconds to wait for another process's transaction; ours take milliseconds

_SCHEMA = """
CREATE TABLE IF NOT EXISTS run (id INTEGER PRIMARY KEY AUTOINCREMENT, began TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS ticket (
    function TEXT NOT NULL,
    ticket TEXT NOT NULL, -- what the call names it by
    step TEXT NOT NULL,
    run INTEGER, -- which one wrote this, NULL once that run has ended, unless it was refused
    status TEXT, -- of the ticket, as it was last seen
    error TEXT, -- the name of its class
    code INTEGER, -- the exchange's, of a refusal
    changed TEXT NOT NULL,
    PRIMARY KEY (function, ticket)
) WITHOUT ROWID;
"""

_T = TypeVar("_T")


class _Wish(NamedTuple):
    """Something to be written, and who waits for it."""

    work: Callable[[sqlite3.Connection], object]
    done: asyncio.Future[object]
    unless_cancelled: bool

    def is_wanted(self) -> bool:
        return not (self.unless_cancelled and self.done.done())


def _grant(wishes: list[_Wish], outcome: list[object] | JournalError) -> None:
    for position, wish in enumerate(wishes):
        if wish.done.done():
            continue  # whoever asked was cancelled
        if isinstance(outcome, JournalError):
            wish.done.set_exception(JournalError(str(outcome)))  # one instance each, because each is raised elsewhere
        else:
            wish.done.set_result(outcome[position])


class Journal:
    """A file in which bulk runs write down what they do, so that another run can go on where one ended.

    Give it to `cancel_withdraws` or `cancel_failed_tickets`. A run that is given the journal of an earlier one
    sends nothing for tickets that are done, and reads those that were sent and never answered before anything
    else. Runs in several processes may share one file on one machine; not over a network file system, where
    SQLite's locks do not hold. One file for each exchange: ticket numbers are an exchange's own.

    The file is made readable by its owner alone. Beside it stand SQLite's own companions, and while a run lasts a
    lock file of that run. Nothing else in the same process may open any of them meanwhile: on POSIX systems that
    would end SQLite's locks. Reach the journal by one name, or by symbolic links, not by hard links.

    Args:
        path: The file; it is made by the first run.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path: Path = Path(path)

    def __repr__(self) -> str:
        return f"Journal({str(self.path)!r})"

    def entries(self) -> list[Entry]:
        """Read the whole journal. It does I/O, for some milliseconds; runs that write meanwhile are not held up.

        Raises:
            JournalError: The file cannot be read, or is no journal.
        """
        _check_file("read", self.path)
        with _told_clearly("read", self.path), contextlib.closing(_connected(self.path, "ro")) as db:
            _check_format(db, self.path)
            return [_entry(row) for row in db.execute(f"SELECT {_COLUMNS} FROM ticket")]  # noqa: S608  (a constant)

    @contextlib.asynccontextmanager
    async def run(self) -> AsyncIterator[Run]:
        """Begin a run, and end it. What runs that have died left in hand is free from here on.

        Raises:
            JournalError: The file cannot be opened or written, or is no journal.
        """
        beginning = asyncio.ensure_future(anyio.to_thread.run_sync(_begun, self.path))
        try:
            run = await asyncio.shield(beginning)
        except asyncio.CancelledError:
            # The thread cannot be stopped: what it opens is closed when it is done.
            beginning.add_done_callback(_end_unused)
            raise
        writer = asyncio.create_task(run.keep_writing(), name="aioalphapoint journal")
        try:
            yield run
        finally:
            run.stop()
            with anyio.CancelScope(shield=True):
                await asyncio.wait({writer})


class Run:
    """One run's hand on a journal. Its methods share transactions: what comes while one is written goes together."""

    def __init__(
        self, path: Path, db: sqlite3.Connection, lock: sqlite3.Connection, number: int, beside: set[int]
    ) -> None:
        self._path = path
        self._db = db
        self._lock = lock
        self._number = number
        self._beside = beside  # the runs that were at work when this one began
        self._waiting: list[_Wish] = []
        self._news = asyncio.Event()
        self._thread = anyio.CapacityLimiter(1)  # of its own: whoever keeps the program's threads busy is no obstacle
        self._is_over = False

    async def claim(self, key: Key) -> tuple[Claim, Entry | None]:
        """Find out what may be done with a ticket; where it is to be sent, that is on disk when this returns.

        Raises:
            JournalError: It cannot be written. Send nothing.
        """
        return await self._write(lambda db: self._claim(db, key), unless_cancelled=True)

    async def record(self, entry: Entry) -> None:
        """Write down how far a ticket has come. It is written though this be cancelled.

        Of a ticket that this run does not have in hand nothing is written but that it was seen cancelled: what
        another run is at, or has done, is that run's to tell.

        Raises:
            JournalError: It cannot be written.
        """
        await self._write(lambda db: self._record(db, entry))

    async def known(self, keys: Iterable[Key]) -> dict[Key, Entry | None]:
        """Read what stands there of many tickets, at once.

        Raises:
            JournalError: It cannot be read.
        """
        return await self._write(lambda db: {key: _get(db, key)[0] for key in keys})

    def _claim(self, db: sqlite3.Connection, key: Key) -> tuple[Claim, Entry | None]:
        entry, run = _get(db, key)
        if entry is not None and entry.is_finished:
            return Claim.DONE, entry
        if entry is None or entry.step is Step.NOT_SENT:
            self._put(db, Entry(key, Step.SENT))
            return Claim.SEND, entry
        if entry.step is Step.REFUSED and run is not None and (run >= self._number or run in self._beside):
            return Claim.DONE, entry  # by this run, or by one that worked beside it, though that may have ended since
        if entry.step is not Step.REFUSED and self._is_anothers(run):
            return Claim.BUSY, entry
        self._put(db, replace(entry, step=Step.UNKNOWN))  # in this run's name: no other reads it meanwhile and sends it
        return Claim.READ, entry

    def _record(self, db: sqlite3.Connection, entry: Entry) -> None:
        if entry.step is Step.CONFIRMED or _get(db, entry.key)[1] == self._number:
            self._put(db, entry)

    def _is_anothers(self, run: int | None) -> bool:
        return run is not None and run != self._number and not _has_ended(self._path, run)

    def _put(self, db: sqlite3.Connection, entry: Entry) -> None:
        db.execute(
            f"INSERT OR REPLACE INTO ticket ({_COLUMNS}, run) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
            (*entry.key, entry.step.value, entry.status, entry.error, entry.code, _now(), self._number),
        )

    # Transactions: one at a time, in a thread, each with all that waits.

    async def _write(self, work: Callable[[sqlite3.Connection], _T], *, unless_cancelled: bool = False) -> _T:
        if self._is_over:
            raise JournalError(f"cannot write the journal {self._path}: its run has ended")
        done: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Wish(work, done, unless_cancelled))
        self._news.set()
        return cast("_T", await done)

    def stop(self) -> None:
        """Let the run end, after what waits is written."""
        self._is_over = True
        self._news.set()

    async def keep_writing(self) -> None:
        """Write what waits until the run is stopped, and end it then: not before, a thread may still be writing."""
        wishes: list[_Wish] = []
        try:
            while self._waiting or not self._is_over:
                await self._news.wait()
                self._news.clear()
                wishes, self._waiting = [wish for wish in self._waiting if wish.is_wanted()], []
                if wishes:
                    _grant(wishes, await anyio.to_thread.run_sync(self._commit, wishes, limiter=self._thread))
        finally:
            # Reached early only by a mistake, or when the loop is shut down: nobody may wait for ever.
            self._is_over = True
            _grant([*wishes, *self._waiting], JournalError(f"cannot write the journal {self._path}: its run has ended"))
            self._waiting = []
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(self.end, limiter=self._thread)

    def _commit(self, wishes: list[_Wish]) -> list[object] | JournalError:
        try:
            with _told_clearly("write", self._path), _transaction(self._db):
                return [wish.work(self._db) for wish in wishes]
        except JournalError as error:
            return error
        except Exception as error:  # noqa: BLE001  (a mistake in this library: nobody may wait for ever)
            return JournalError(f"cannot write the journal {self._path}: {type(error).__name__}")

    def end(self) -> None:
        """Let go of the files. It never fails: whatever is left open here ends with the process."""
        with contextlib.suppress(sqlite3.Error):
            self._db.close()
        with contextlib.suppress(sqlite3.Error, OSError):
            _lock_file(self._path, self._number).unlink(missing_ok=True)  # first: unlocked, it is anybody's to take
            self._lock.close()


_COLUMNS = "function, ticket, step, status, error, code, changed"


def _begun(path: Path) -> Run:
    with _told_clearly("open", path), contextlib.ExitStack() as undo:
        path = path.resolve()  # by whatever name it is reached, the locks beside it are the same
        if not path.parent.is_dir():
            raise JournalError(f"cannot open the journal {path}: there is no folder {path.parent}")
        _check_file("open", path)  # before its mode is changed: run by root, it would take a device from everybody
        db = _connected(path, "rwc")
        undo.callback(db.close)
        _set_up(db, path)
        with _transaction(db):  # one run at a time begins, so the locks that are tried here are nobody's by chance
            number = db.execute("INSERT INTO run (began) VALUES (?)", (_now(),)).lastrowid
            assert number is not None  # noqa: S101  (an INSERT has one)
            lock = _locked(_lock_file(path, number))
            if lock is None:
                raise JournalError(f"the journal {path} was replaced while a run was writing to it")
            undo.callback(lock.close)
            others = {run for (run,) in db.execute("SELECT id FROM run WHERE id <> ?", (number,))}
            ended = {run for run in others if _has_ended(path, run)}
            rows = [(run,) for run in ended]
            # Who was refused is still asked for by the runs that were beside it.
            db.executemany("UPDATE ticket SET run = NULL WHERE run = ? AND step <> 'refused'", rows)
            db.executemany("DELETE FROM run WHERE id = ?", rows)
        undo.pop_all()
        return Run(path, db, lock, number, others - ended)


def _check_file(deed: str, path: Path) -> None:
    if path.is_dir():
        raise JournalError(f"cannot {deed} the journal {path}: it is a folder")
    if path.exists() and not path.is_file():  # a pipe, at which one waits for ever, or a device such as /dev/null
        raise JournalError(f"cannot {deed} the journal {path}: it is no file that is kept")


def _end_unused(beginning: asyncio.Future[Run]) -> None:
    if not beginning.cancelled() and beginning.exception() is None:
        beginning.result().end()


def _set_up(db: sqlite3.Connection, path: Path) -> None:
    if db.execute("SELECT count(*) FROM sqlite_master").fetchone() != (0,):
        _check_format(db, path)
    path.chmod(0o600)  # SQLite gives its companions the same
    _switch_to_wal(db)
    db.execute("PRAGMA synchronous = FULL")  # on disk means on disk, when the power fails too
    with _transaction(db):
        for statement in _SCHEMA.split(";"):
            db.execute(statement)
        db.execute(f"PRAGMA application_id = {_APPLICATION_ID}")


def _switch_to_wal(db: sqlite3.Connection) -> None:
    # SQLite does not wait here for another connection, whatever its timeout: two that begin at once would collide.
    until = time.monotonic() + _BUSY_TIMEOUT
    while db.execute("PRAGMA journal_mode").fetchone() != ("wal",):
        try:
            db.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > until:
                raise
            time.sleep(0.01)


def _check_format(db: sqlite3.Connection, path: Path) -> None:
    if db.execute("PRAGMA application_id").fetchone() != (_APPLICATION_ID,):
        raise JournalError(f"{path} is an SQLite file of something else, no journal of aioalphapoint")


def _get(db: sqlite3.Connection, key: Key) -> tuple[Entry | None, int | None]:
    found = db.execute(
        f"SELECT {_COLUMNS}, run FROM ticket "  # noqa: S608  (a constant)
        "WHERE function = ? AND ticket = ?",
        key,
    ).fetchone()
    return (None, None) if found is None else (_entry(found[:-1]), found[-1])


def _entry(row: tuple[str, str, str, str | None, str | None, int | None, str]) -> Entry:
    function, ticket, step, status, error, code, changed = row
    try:
        return Entry(Key(function, ticket), Step(step), status, error, code, changed)
    except ValueError:
        raise JournalError(f"the journal holds a step that this version does not know: {quote(step)}") from None


def _lock_file(path: Path, run: int) -> Path:
    return path.with_name(f"{path.name}-run{run}")


def _has_ended(path: Path, run: int) -> bool:
    file = _lock_file(path, run)
    if not file.exists():
        return True
    lock = _locked(file)
    if lock is None:
        return False
    lock.close()
    file.unlink(missing_ok=True)
    return True


def _locked(file: Path) -> sqlite3.Connection | None:
    """Lock a file as only one connection can, in whatever process; None where another one has it."""
    lock = _connected(file, "rwc", timeout=0)
    try:
        file.chmod(0o600)
        lock.execute("PRAGMA journal_mode = MEMORY")  # nothing is ever written, and no companion is to be left behind
        lock.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError:
        lock.close()
        return None
    return lock


def _connected(path: Path, mode: str, timeout: float | None = None) -> sqlite3.Connection:
    # One thread at a time uses it, but not always the same one.
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=_BUSY_TIMEOUT if timeout is None else timeout,
        isolation_level=None,
        check_same_thread=False,
    )


@contextlib.contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:  # a full disk has rolled it back already
            db.execute("ROLLBACK")
        raise


@contextlib.contextmanager
def _told_clearly(deed: str, path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        words = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise JournalError(f"cannot {deed} the journal {path}: {words}") from error


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
