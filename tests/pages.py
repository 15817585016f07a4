"""A page of documentation as a program: its blocks are run in order, and what it shows as printed is compared.

* A `python` block runs in the page's one namespace, with `await` at its top level, as in a notebook. One whose first
  line is `# NAME.py` is a file: it is saved, and another block has to run or import it. So is an `ini` block that
  begins with `# NAME.ini`; another one is shown alone.
* A `sh` block runs in bash, in an empty folder, where any failure is one. Of `pip install`, which would ask a package
  index, it is checked that what it names is here, or is an extra of this project.
* Of Sphinx's own blocks, `{eval-rst}`, `{include}` and `{toctree}` are passed by.
* A `text` block is what the block before it prints, stdout and stderr together. `...` stands for anything.
* Port 8765 stands for a free one.

Behind a page stands a simulated exchange with two users, told of by the `ALPHAPOINT_*` variables. HTML comments, which
no reader sees, say the rest:

* `<!-- meanwhile CODE -->`: Python for the exchange's side, with `exchange` and the page's own names in `page`.
* `<!-- keeps running -->`: the `sh` block that follows goes on until the page ends; its text, which it must have, is
  waited for.
* `<!-- not run: REASON -->`: the block that follows is not run.
"""

import ast
import asyncio
import doctest
import inspect
import io
import logging
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, field
from importlib.metadata import metadata, version
from pathlib import Path

from markdown_it import MarkdownIt
from packaging.requirements import Requirement

from aioalphapoint.testing import SimulatedExchange
from conftest import ALICE, OPERATOR

__all__ = ["Block", "PageError", "blocks_of", "run_page"]

PAGE_TIMEOUT = 60.0  # seconds
FILE = re.compile(r"# (\w+\.(?:py|ini))\n")
DIRECTIVES = {"{eval-rst}", "{include}", "{toctree}"}  # Sphinx's own, which print nothing
COMMENT = re.compile(r"<!--\s*(meanwhile|keeps running|not run:)\s*(.*?)\s*-->\s*", re.DOTALL)


class PageError(AssertionError):
    """A page says what is not so."""


@dataclass
class Block:
    """One block of a page, the hidden ones included.

    Attributes:
        line: Where it stands in the page.
        language: `python`, `sh`, `ini`, or `meanwhile`.
        text: What is to be run.
        shown: What the page says that it prints; None where it says nothing.
        orders: What comments say of it.
    """

    line: int
    language: str
    text: str
    shown: str | None = None
    orders: dict[str, str] = field(default_factory=dict)

    @property
    def is_settings(self) -> bool:
        """Whether it is shown alone, as settings that are another program's."""
        return self.language == "ini" and FILE.match(self.text) is None

    @property
    def is_run(self) -> bool:
        return not self.is_settings and "not run:" not in self.orders


def blocks_of(text: str) -> list[Block]:
    """Read a page."""
    blocks: list[Block] = []
    orders: dict[str, str] = {}
    for token in MarkdownIt("commonmark").parse(text):
        line = 0 if token.map is None else token.map[0] + 1
        comment = COMMENT.fullmatch(token.content) if token.type == "html_block" else None
        if comment is not None and comment[1] == "meanwhile":
            blocks.append(Block(line, "meanwhile", comment[2] + "\n"))
        elif comment is not None:
            orders[comment[1]] = comment[2]
        elif token.type == "html_block":
            raise PageError(f"line {line}: a comment that the runner does not know")
        elif token.type == "code_block":
            raise PageError(f"line {line}: an indented block does not say what it is; fence it")
        elif token.type == "fence":
            _take_fence(blocks, line, token.info.strip(), token.content, orders)
            orders = {}
    return blocks


def _take_fence(blocks: list[Block], line: int, language: str, text: str, orders: dict[str, str]) -> None:
    if language.partition(" ")[0] in DIRECTIVES:
        return
    if language == "text":
        if not blocks or blocks[-1].shown is not None or blocks[-1].is_settings:
            raise PageError(f"line {line}: there is no block that would print this")
        blocks[-1].shown = text
    elif language in {"ini", "python", "sh"}:
        if orders.get("not run:") == "":
            raise PageError(f"line {line}: a block that is not run needs a reason")
        blocks.append(Block(line, language, text, orders=orders))
    else:
        raise PageError(f"line {line}: a block in {language or 'no language'!r} cannot be run")


async def run_page(text: str, folder: Path) -> None:
    """Run a page in an empty folder.

    Raises:
        PageError: What it says is not so; the message names the line.
    """
    blocks = blocks_of(text)
    with _lost_failures() as lost:
        async with _no_task_left(), asyncio.timeout(PAGE_TIMEOUT), _exchange() as exchange:
            with _surroundings(exchange, folder) as printed:
                page = _Page(exchange, folder, printed)
                await page.run_all(block for block in blocks if block.is_run)
        page.forget()
    if lost:
        raise PageError(f"a task of the page failed, and nobody asked what became of it: {lost[0]}")
    for name in page.saved:
        word = re.compile(rf"\b{Path(name).stem}\b")
        if sum(word.search(block.text) is not None for block in blocks if block.is_run) < 2:  # itself is one
            raise PageError(f"{name} is shown and never run")


@contextmanager
def _lost_failures() -> Iterator[list[str]]:
    """Collect what the event loop would complain of."""
    loop, lost = asyncio.get_running_loop(), list[str]()
    handler = loop.get_exception_handler()
    loop.set_exception_handler(lambda _loop, context: lost.append(repr(context.get("exception", context["message"]))))
    try:
        yield lost
    finally:
        loop.set_exception_handler(handler)


@asynccontextmanager
async def _no_task_left() -> AsyncIterator[None]:
    others = asyncio.all_tasks()
    try:
        yield
    finally:
        left = asyncio.all_tasks() - others
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=PAGE_TIMEOUT)


@asynccontextmanager
async def _exchange() -> AsyncIterator[SimulatedExchange]:
    async with SimulatedExchange() as exchange:
        exchange.add_user(ALICE.user_name, ALICE.password, account_id=7)
        exchange.add_user(OPERATOR.user_name, OPERATOR.password, permissions=["Operator"])
        yield exchange


@contextmanager
def _surroundings(exchange: SimulatedExchange, folder: Path) -> Iterator[io.StringIO]:
    """Set what a page may find and may change, and bring back what was there."""
    root = logging.getLogger()
    before = (dict(os.environ), Path.cwd(), root.handlers[:], root.level, sys.path[:], set(sys.modules))
    root.handlers[:] = []  # pytest's would be in the way of a page's own
    sys.path.insert(0, str(folder))
    for name in [name for name in os.environ if name.startswith("ALPHAPOINT_")]:
        del os.environ[name]
    os.environ.update(
        ALPHAPOINT_URL=exchange.url,
        ALPHAPOINT_USER_NAME=ALICE.user_name,
        ALPHAPOINT_PASSWORD=ALICE.password,
        PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        PYTHONWARNINGS="error",
        COLUMNS="80",
    )
    os.chdir(folder)
    printed = io.StringIO()
    try:
        with redirect_stdout(printed), redirect_stderr(printed):
            yield printed
    finally:
        os.environ.clear()
        os.environ.update(before[0])
        os.chdir(before[1])
        root.handlers[:], sys.path[:] = before[2], before[4]
        root.setLevel(before[3])
        for name in sys.modules.keys() - before[5]:
            if Path(getattr(sys.modules[name], "__file__", None) or "/").parent == folder:
                del sys.modules[name]
        for name in ("aioalphapoint", "aioalphapoint.wire"):
            logging.getLogger(name).setLevel(logging.NOTSET)


class _Page:
    """A page that is being run."""

    def __init__(self, exchange: SimulatedExchange, folder: Path, printed: io.StringIO) -> None:
        self.saved: list[str] = []
        self._names: dict[str, object] = {"__name__": "__main__"}
        self._others: dict[str, object] = {"exchange": exchange, "page": self._names}
        self._folder = folder
        self._printed = printed
        self._seen = 0  # characters of it that a block has shown
        self._port = _free_port()
        self._programs: list[asyncio.subprocess.Process] = []
        self._lasting: dict[int, asyncio.subprocess.Process] = {}  # by line

    async def run_all(self, blocks: Iterable[Block]) -> None:
        try:
            for block in blocks:
                await self._run(block)
            self._check_programs()
            rest = self._printed.getvalue()[self._seen :]
            if rest:
                raise PageError(f"after the last block this is printed, and not shown:\n{rest}")
        finally:
            await self._stop()

    def forget(self) -> None:
        """Let go of what the page made: a task tells the event loop then of a failure that nobody has seen."""
        self._names.clear()
        self._others.clear()

    async def _run(self, block: Block) -> None:
        text = block.text.replace("8765", self._port)
        run = self._run_shell if block.language == "sh" else self._run_python
        try:
            shell = await run(block, text)
        except (Exception, SystemExit) as error:
            raise PageError(f"line {block.line}: {type(error).__name__}: {error}") from error
        if block.language == "meanwhile":
            return  # what the page's own tasks print meanwhile is shown by the block after
        printed, self._seen = _trimmed(self._printed.getvalue()[self._seen :] + shell), len(self._printed.getvalue())
        shown = _trimmed(block.shown or "").replace("8765", self._port)
        if not doctest.OutputChecker().check_output(shown, printed, doctest.ELLIPSIS | doctest.DONT_ACCEPT_BLANKLINE):
            raise PageError(f"line {block.line}: the page shows\n{shown}\nand this is printed:\n{printed}")

    def _check_programs(self) -> None:
        """Make sure that what keeps running still does."""
        for line, program in self._lasting.items():
            if program.returncode is not None:
                raise PageError(f"line {line}: it ended by itself, with exit status {program.returncode}")

    async def _stop(self) -> None:
        for program in self._programs:
            if program.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(program.pid, signal.SIGKILL)
            await program.communicate()

    async def _run_python(self, block: Block, text: str) -> str:
        file = FILE.match(text)
        if file is not None and block.language != "meanwhile":
            self.saved.append(file[1])
            (self._folder / file[1]).write_text(text)
            return ""
        names = self._others if block.language == "meanwhile" else self._names
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        code = compile("\n" * block.line + text, "<page>", "exec", flags=flags, dont_inherit=True)
        result: object = eval(code, names)  # noqa: S307  (the project's own pages)
        if inspect.isawaitable(result):
            await result
        return ""

    async def _run_shell(self, block: Block, text: str) -> str:
        text = "".join(line for line in text.splitlines(keepends=True) if not _is_installation(line))
        script = f"{text}\nenv -0 > .exported"
        program = await asyncio.create_subprocess_exec(
            *("bash", "-euo", "pipefail", "-c", script),
            cwd=self._folder,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        self._programs.append(program)
        if "keeps running" not in block.orders:
            printed = (await program.communicate())[0].decode()
            if program.returncode != 0:
                raise PageError(f"exit status {program.returncode}: {printed}")
            self._take_exports()
            return printed
        if not block.shown:
            raise PageError("a program that keeps running has to show a text, by which it is known to be ready")
        self._lasting[block.line] = program
        assert program.stdout is not None
        lines = [await program.stdout.readline() for _ in block.shown.splitlines()]
        return b"".join(lines).decode()

    def _take_exports(self) -> None:
        """Let the blocks that follow have what this one exported: a page is one terminal."""
        exported = self._folder / ".exported"
        exported.touch()  # where the block said `exit`
        for line in exported.read_text().split("\0"):
            name, _, value = line.partition("=")
            if name not in {"", "_", "OLDPWD", "PWD", "SHLVL"}:
                os.environ[name] = value
        exported.unlink()


def _trimmed(text: str) -> str:
    """Leave out the blanks at the ends of lines, which nobody sees."""
    return re.sub(r" +$", "", text, flags=re.MULTILINE)


def _is_installation(line: str) -> bool:
    """Whether a line installs something; then that is made sure of here."""
    found = re.match(r"(?:python -m )?pip install +(.+)$", line)
    if found is None:
        return False
    for word in found[1].replace("'", "").split():
        wanted = Requirement(word)
        unknown = wanted.extras - set(metadata(wanted.name).get_all("Provides-Extra") or [])
        if unknown or version(wanted.name) not in wanted.specifier:
            raise PageError(f"{word} is not what is here")
    return True


def _free_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return str(taken.getsockname()[1])
