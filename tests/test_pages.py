"""What runs the pages of the documentation finds what is wrong with a page."""

import logging
import os
import sys
from pathlib import Path

import pytest

from pages import PageError, run_page


def page(*blocks: str) -> str:
    """Write a page; a block is its language, a line break, and its text."""
    return "\n\n".join(block if block.startswith("<!--") else f"```{block}\n```" for block in blocks)


FILE = "python\n# program.py\nprint('ran')"

RIGHT = {
    "python": page("python\nx = 1", "python\nprint(x + 1)", "text\n2"),
    "await at the top": page("python\nimport asyncio\nawait asyncio.sleep(0)"),
    "any text": page("python\nprint('from 12 to 13')", "text\nfrom ... to ..."),
    "a file": page(FILE, "sh\npython program.py", "text\nran"),
    "a file that is imported": page(FILE, "python\nimport program", "text\nran"),
    "an export": page("sh\nexport WHO=me", "sh\necho $WHO", "text\nme"),
    "an export that a program finds": page(
        "sh\nexport WHO=me", "python\nimport os\nprint(os.environ['WHO'])", "text\nme"
    ),
    "blanks at an end": page("sh\necho 'me  '", "text\nme"),
    "stderr": page("sh\necho told >&2", "text\ntold"),
    "a package that is here": page("sh\npip install 'aioalphapoint[cli]'"),
    "a reason": page("<!-- not run: it would cost money -->", "sh\nexit 1"),
    "the exchange": page(
        "<!-- meanwhile\nprint(exchange.url)\n-->", "python\npass", "text\nws://127.0.0.1:.../WSGateway/"
    ),
    "the exchange and the page": page(
        "python\nx = [1]", "<!-- meanwhile\npage['x'].append(2)\n-->", "python\nassert x[1]"
    ),
    "one that keeps running": page(
        "python\n# server.py\nimport time\nprint('port 8765', flush=True)\ntime.sleep(60)",
        "<!-- keeps running -->",
        "sh\npython server.py",
        "text\nport 8765",
    ),
    "what is shown alone": page("ini\n[Service]"),
    "Sphinx's own": page("{toctree}\nerrors", "{include} errors.md", "{eval-rst}\n.. autofunction:: print"),
    "a task that is still at work": page("<!-- meanwhile\nimport asyncio\nasyncio.create_task(asyncio.sleep(60))\n-->"),
    "a task that uses a name until the end": page(
        "<!-- meanwhile\nimport asyncio\n\nasync def look():\n    while True:\n        await asyncio.sleep(0)\n\n"
        "asyncio.create_task(look())\n-->",
    ),
    "a task whose failure is seen": page(
        "python\nimport asyncio\n\nasync def fail():\n    raise KeyError\n\ntask = asyncio.create_task(fail())",
        "python\ntry:\n    await task\nexcept KeyError:\n    print('seen')",
        "text\nseen",
    ),
    "settings in a file": page("ini\n# told.ini\n[a]", "sh\ntail -1 told.ini", "text\n[a]"),
}

WRONG = {
    "an exception": (page("python\n1 / 0"), "line 1: ZeroDivisionError"),
    "a name that is not there": (page("python\nimport os", "python\noss"), "line 5: NameError"),
    "a name of the other side": (page("python\nexchange"), "NameError"),
    "an end": (page("python\nraise SystemExit"), "line 1: SystemExit"),
    "an exit status": (page("sh\nfalse\ntrue"), "exit status 1"),
    "a broken pipe line": (page("sh\nfalse | true"), "exit status 1"),
    "a variable that is not set": (page("sh\necho $NOBODY"), "NOBODY: unbound variable"),
    "another text": (page("python\nprint(2)", "text\n1"), "the page shows\n1\n\nand this is printed:\n2"),
    "another text of a shell": (page("sh\necho 2", "text\n1"), "the page shows\n1\n\nand this is printed:\n2"),
    "a text that is not printed": (page("python\npass", "text\n1"), "the page shows\n1"),
    "a print that is not shown": (page("python\nprint(2)"), "this is printed:\n2"),
    "an echo that is not shown": (page("sh\necho 2"), "this is printed:\n2"),
    "a text of nobody": (page("text\n1"), "there is no block that would print this"),
    "a second text": (page("python\nprint(1)", "text\n1", "text\n1"), "there is no block"),
    "an unknown language": (page("ruby\nputs 1"), "'ruby' cannot be run"),
    "no language": (page("\nx"), "'no language' cannot be run"),
    "an indented block": ("    x = 1\n", "fence it"),
    "no reason": (page("<!-- not run: -->", "sh\nexit 1"), "needs a reason"),
    "an unknown comment": (page("<!-- skip -->", "sh\nexit 1"), "does not know"),
    "a file that nobody runs": (page(FILE), "program.py is shown and never run"),
    "a package that is not here": (page("sh\npip install no-such-package"), "PackageNotFoundError"),
    "an extra that is not there": (page("sh\npip install 'aioalphapoint[magic]'"), "is not what is here"),
    "a version that is not here": (page("sh\npip install 'aioalphapoint>=1000'"), "is not what is here"),
    "the other side": (page("<!-- meanwhile\nexchange.ticket(1)\n-->"), "line 1: KeyError"),
    "a warning": (page("python\nimport warnings\nwarnings.warn('old')"), "UserWarning: old"),
    "one that ends": (page("<!-- keeps running -->", "sh\ntrue", "text\nready"), "the page shows\nready"),
    "one that ends later": (
        page(
            "<!-- keeps running -->",
            "sh\necho $$ > pid\necho ready\nexit 3",
            "text\nready",
            "sh\nwhile kill -0 $(cat pid) 2>/dev/null; do :; done",
        ),
        "line 3: it ended by itself, with exit status 3",
    ),
    "one that keeps running, and says nothing": (page("<!-- keeps running -->", "sh\nfalse"), "has to show a text"),
    "a directive that nobody knows": (page("{code-block} python\n1 / 0"), "cannot be run"),
    "a module that is needed": (page("<!-- needs asyncio -->", "sh\ntrue"), "does not know"),
    "a file of which a part of a word is the name": (page(FILE, "python\nprograms = 1"), "shown and never run"),
    "a file that a block names which is not run": (
        page(FILE, "<!-- not run: too dear -->", "sh\npython program.py"),
        "shown and never run",
    ),
    "a print of the other side at the end": (
        page("<!-- meanwhile\nprint('late')\n-->"),
        "printed, and not shown:\nlate",
    ),
    "a task that fails": (
        page(
            "<!-- meanwhile\nimport asyncio\n\nasync def fail():\n    raise KeyError('lost')\n\n"
            "task = asyncio.create_task(fail())\n-->",
            "python\nimport asyncio\nawait asyncio.sleep(0)",
        ),
        "a task of the page failed, and nobody asked what became of it: KeyError('lost')",
    ),
    "a text after what is shown alone": (
        page("python\nprint(1)", "ini\n[Service]", "text\n1"),
        "there is no block that would print this",
    ),
}


@pytest.mark.parametrize("text", RIGHT.values(), ids=RIGHT)
async def test_a_page_that_is_right_passes(text: str, tmp_path: Path) -> None:
    await run_page(text, tmp_path)


@pytest.mark.parametrize(("text", "complaint"), WRONG.values(), ids=WRONG)
async def test_a_page_that_is_wrong_is_told_of(text: str, complaint: str, tmp_path: Path) -> None:
    with pytest.raises(PageError) as caught:
        await run_page(text, tmp_path)
    assert complaint in str(caught.value)


async def test_a_page_leaves_nothing_behind(tmp_path: Path) -> None:
    program = "import logging, os\nos.environ['LEFT'] = '1'\nlogging.basicConfig(level=10)\nimport left"
    root = logging.getLogger()
    before = (dict(os.environ), Path.cwd(), root.handlers[:], root.level, sys.path[:])
    await run_page(page("python\n# left.py\nx = 1", f"python\n{program}"), tmp_path)
    assert (dict(os.environ), Path.cwd(), root.handlers[:], root.level, sys.path[:]) == before
    assert "left" not in sys.modules
