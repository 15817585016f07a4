"""Everything in docs/ is run, leads somewhere, and agrees with the code and the README."""

import asyncio
import hashlib
import importlib
import os
import re
import signal
import sys
from pathlib import Path

import pytest

import aioalphapoint
from aioalphapoint import CallRejected, Client, WithdrawStatus
from aioalphapoint.testing import Faults, SimulatedExchange
from conftest import ALICE
from pages import run_page

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(path for path in DOCS.rglob("*.md") if not {"_build", "node_modules"} & set(path.parts))
TEXTS = {str(path.relative_to(DOCS)): path.read_text(encoding="utf-8") for path in PAGES}
README = (ROOT / "README.md").read_text(encoding="utf-8")

# Each address outside of this repository that the pages, or their links to Python's documentation, may lead to.
ADDRESSES = {"https://docs.python.org/3/library/{module}.html#{module}.{name}"}

PUBLIC_MODULES = ["aioalphapoint", "aioalphapoint.bulk", "aioalphapoint.reconcile", "aioalphapoint.testing"]
PUBLIC_MODULES += ["aioalphapoint.otel", "pytest_aioalphapoint"]


@pytest.mark.parametrize("page", TEXTS)
async def test_a_page_does_what_it_shows(page: str, tmp_path: Path) -> None:
    await run_page(TEXTS[page], tmp_path)


@pytest.mark.parametrize(("name", "sign"), [("exchange.py", b"listening at"), ("service.py", b"nonsense Invalid")])
async def test_ctrl_c_ends_a_program_of_the_tutorial_at_once(
    name: str, sign: bytes, exchange: SimulatedExchange
) -> None:
    text = TEXTS["tutorial.md"].partition(f"```python\n# {name}\n")[2].partition("```")[0]
    who = {"ALPHAPOINT_URL": exchange.url, "ALPHAPOINT_USER_NAME": ALICE.user_name, "PYTHONWARNINGS": "error"}
    program = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", text.replace("8765", "0")),
        env=os.environ | who | {"ALPHAPOINT_PASSWORD": ALICE.password},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        assert program.stdin is not None
        assert program.stdout is not None
        program.stdin.write(b"nonsense\n")
        assert (await asyncio.wait_for(program.stdout.readline(), 30)).startswith(sign)
        program.send_signal(signal.SIGINT)  # its input is open still
        await asyncio.wait_for(program.wait(), 10)
    finally:
        if program.returncode is None:
            program.kill()
        out, complaint = await program.communicate()
    assert (program.returncode, out, complaint) == (0, b"Stopped.\n", b"")


@pytest.mark.parametrize("page", TEXTS)
def test_every_link_of_a_page_leads_to_a_file(page: str) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", TEXTS[page]):
        if not link.startswith("https://"):
            assert (DOCS / page).parent.joinpath(link.split("#")[0]).exists(), link


def test_every_address_outside_stands_in_one_list() -> None:
    texts = [*TEXTS.values(), *(path.read_text() for path in [*DOCS.glob("_ext/*.py"), DOCS / "conf.py"])]
    found = {address for text in texts for address in re.findall(r"https?://[^\s)`\"'>]+", text)}
    ours = {address for address in found if re.match(r"https?://(127\.0\.0\.1|test|NAME)\b", address)}
    assert found - ours == ADDRESSES


def test_no_picture_fetches_anything() -> None:
    pictures = [path for path in DOCS.rglob("*.svg") if not {"_build", "node_modules"} & set(path.parts)]
    assert len(pictures) >= 7
    for path in pictures:
        addresses = re.findall(r"https?://[^\s)\"']+", path.read_text())
        assert set(addresses) <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}, path


def test_every_public_name_is_in_the_reference_once() -> None:
    named = re.findall(r"^\.\. auto(?!module)\w+:: ([\w.]+)", "\n".join(TEXTS.values()), re.MULTILINE)
    public = [f"{name}.{member}" for name in PUBLIC_MODULES for member in importlib.import_module(name).__all__]
    assert sorted(named) == sorted(public)


@pytest.mark.parametrize(
    ("page", "table", "rows"),
    [("promises.md", "| promise |", 14), ("errors.md", "| error |", 15), ("architecture.md", "| to change |", 15)],
)
def test_what_the_readme_tells_is_told_from_there(page: str, table: str, rows: int) -> None:
    """One source: the page includes the README's table, whole."""
    found = re.search(r'\{include\} \.\./README\.md\n:start-after: "(.+)"\n:end-before: "(.+)"\n', TEXTS[page])
    assert found is not None
    assert README.count(found[1]) == 1
    included = README.partition(found[1])[2].partition(found[2])[0].strip()
    assert included.startswith(table)
    assert included.count("\n|") >= rows
    assert table not in TEXTS[page]


def test_the_protocol_page_lists_each_status_under_what_it_is() -> None:
    table = TEXTS["protocol.md"].partition("| | statuses |")[2].partition("\n\n")[0]
    told = {number: row for row in table.splitlines() for number in re.findall(r"\w+ \d+", row)}
    numbered = {f"{status} {number}": status for number, status in enumerate(WithdrawStatus)}
    assert told.keys() == numbered.keys()
    for name, row in told.items():
        status = numbered[name]
        assert status.is_open == row.startswith("| open"), name
        assert status.is_cancelled == row.startswith("| cancelled"), name
        assert status.is_failed == row.startswith("| failed"), name


def test_the_protocol_page_lists_each_code_with_its_error() -> None:
    told = re.findall(r"^\| (\d+) \|.*\| `(\w+)` \|$", TEXTS["protocol.md"], re.MULTILINE)
    assert {int(code): name for code, name in told} == {
        code: error.__name__ for code, error in CallRejected._by_code.items()
    }


def test_the_architecture_page_names_modules_that_are_there() -> None:
    named = re.findall(r"`(\w+\.py|\w+/)`", TEXTS["architecture.md"])
    assert len(named) > 20
    assert [name for name in named if not (Path(aioalphapoint.__file__).parent / name).exists()] == []


def test_the_table_of_faults_names_each() -> None:
    table = TEXTS["how-to/test-your-own-code.md"].partition("| `with exchange.faults...` |")[2].partition("\n\n")[0]
    assert set(re.findall(r"`(\w+)\(", table)) == {name for name in vars(Faults) if name[0] != "_"} - {"innermost"}


@pytest.mark.parametrize("page", TEXTS)
def test_names_in_the_prose_are_real(page: str) -> None:
    prose = re.sub(r"^```.*?^```$", "", TEXTS[page], flags=re.DOTALL | re.MULTILINE)
    for owner, name in re.findall(r"`(?:await |async for \w+ in )?(client|exchange|faults)\.(?!py\b)(\w+)", prose):
        kind = {"client": Client, "exchange": SimulatedExchange(), "faults": Faults}[owner]
        assert hasattr(kind, name), f"{owner}.{name}"


@pytest.mark.parametrize("drawing", sorted((DOCS / "drawings").glob("*.d2")), ids=lambda path: path.name)
def test_a_drawing_belongs_to_its_source(drawing: Path) -> None:
    """`make drawings` mends it."""
    svg = drawing.with_suffix(".svg").read_text(encoding="utf-8")
    digest = hashlib.sha256()
    for name in ("draw.mjs", "package.json", drawing.name):
        digest.update(drawing.with_name(name).read_bytes())
    assert f"sha256 {digest.hexdigest()} -->" in svg.splitlines()[0]
    assert set(re.findall(r"\w+://[^\"]+", svg)) <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert "prefers-color-scheme: dark" in svg
    assert any(f"drawings/{drawing.stem}.svg" in text for text in TEXTS.values())


def test_no_drawing_is_left_of_a_source_that_is_gone() -> None:
    assert [path for path in (DOCS / "drawings").glob("*.svg") if not path.with_suffix(".d2").exists()] == []
