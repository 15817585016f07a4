"""The pytest plugin, as the author of a bot has it: in test files of their own, run by pytest."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.version import Version

pytestmark = pytest.mark.skipif(
    Version(version("anyio")) < Version("4.15"), reason="anyio's own plugin goes with pytest 9 from 4.15 on"
)

pytest_plugins = ["pytester"]

INI = {"asyncio_default_fixture_loop_scope": "function", "filterwarnings": "error"}

IMPORTS = """
    import asyncio
    import anyio
    import pytest
    import pytest_asyncio
    from aioalphapoint import Client, Password
"""
TEST = """
    async def test_a_bot(simulated_exchange, alphapoint_client):
        ticket = simulated_exchange.add_withdraw(account_id=7, amount="1.10")
        await alphapoint_client.cancel_withdraw(account_id=7, request_code=ticket.request_code)
        assert simulated_exchange.ticket(ticket.ticket_number).status == "UserCanceled"
"""


def run(pytester: pytest.Pytester, *source: str, options: str = "", **ini: str) -> pytest.RunResult:
    lines = [f"{name} = {value}" for name, value in ({} if "no:asyncio" in options else INI | ini).items()]
    pytester.makeini("\n".join(["[pytest]", *lines]))
    pytester.makepyfile(IMPORTS + "".join(source))
    # hypothesis would be imported anew by each run
    return pytester.runpytest_inprocess("-p", "no:hypothesispytest", *options.split())


@pytest.mark.parametrize(
    ("mark", "options", "ini"),
    [
        ("asyncio", "", {}),
        ("asyncio(loop_scope='module')", "", {}),
        ("asyncio(loop_scope='session')", "", {"asyncio_default_test_loop_scope": "class"}),
        ("asyncio", "", {"asyncio_default_test_loop_scope": "module", "asyncio_default_fixture_loop_scope": "session"}),
        ("asyncio", "", {"asyncio_mode": "auto"}),
        ("filterwarnings('error')", "", {"asyncio_mode": "auto"}),
        ("anyio", "", {}),
        ("anyio", "-p no:asyncio", {}),
        ("filterwarnings('error')", "-p no:asyncio --anyio-mode=auto", {}),
    ],
)
def test_a_bot_is_tested_in_three_lines_whatever_runs_the_test(
    pytester: pytest.Pytester, mark: str, options: str, ini: dict[str, str]
) -> None:
    marked = f"\n    @pytest.mark.{mark}{TEST}"
    again = marked.replace("test_a_bot", "test_again")
    run(pytester, marked, again, options=options, **ini).assert_outcomes(passed=2)


def test_tests_on_different_loops_stand_side_by_side(pytester: pytest.Pytester) -> None:
    marks = ("asyncio", "asyncio(loop_scope='module')", "anyio", "asyncio(loop_scope='session')", "asyncio")
    tests = [f"\n    @pytest.mark.{mark}{TEST}".replace("a_bot", f"{number}") for number, mark in enumerate(marks)]
    run(pytester, *tests).assert_outcomes(passed=len(tests))


def test_each_test_has_an_exchange_of_its_own_and_leaves_it_closed(pytester: pytest.Pytester) -> None:
    source = """
    seen = []

    @pytest.mark.asyncio
    @pytest.mark.parametrize("_", range(2))
    async def test_it(simulated_exchange, alphapoint_client, _):
        ticket = simulated_exchange.add_withdraw(account_id=7, amount="1.10")
        assert ticket.ticket_number == 292
        assert alphapoint_client.state == "ready"
        assert not seen or (seen[0] is not alphapoint_client and seen[0].state == "closed")
        seen.append(alphapoint_client)
        seen.append(simulated_exchange.url)

    @pytest.mark.asyncio
    async def test_afterwards():
        assert [client.state for client in seen[::2]] == ["closed", "closed"]
        for url in seen[1::2]:
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", int(url.split(":")[2].split("/")[0]))
    """
    run(pytester, source).assert_outcomes(passed=3)


def test_a_test_that_fails_or_cuts_the_session_leaves_the_next_one_in_peace(pytester: pytest.Pytester) -> None:
    fails = "\n    @pytest.mark.asyncio" + TEST.replace("UserCanceled", "Pending").replace("a_bot", "1")
    cuts = """
    @pytest.mark.asyncio
    async def test_2(simulated_exchange, alphapoint_client):
        await simulated_exchange.cut_now()
    """
    passes = "\n    @pytest.mark.asyncio" + TEST.replace("a_bot", "3")
    run(pytester, fails, cuts, passes).assert_outcomes(failed=1, passed=2)


def test_the_names_and_numbers_told_in_the_docstring_are_true(pytester: pytest.Pytester) -> None:
    source = """
    @pytest.mark.asyncio
    async def test_alice(simulated_exchange, alphapoint_client):
        identity = alphapoint_client.identity
        assert (identity.user_id, identity.user_name, identity.account_id) == (1, "alice", 7)
        async with Client(simulated_exchange.url, Password("alice", "simulated")) as another:
            assert another.identity == identity

    @pytest.mark.asyncio
    async def test_an_operator(simulated_exchange):
        simulated_exchange.add_user("operator", "secret", permissions=["Operator"])
        ticket = simulated_exchange.add_withdraw(account_id=7, amount="1.10", status="Failed")
        async with Client(simulated_exchange.url, Password("operator", "secret")) as operator:
            await operator.cancel_failed_withdraw_ticket(ticket_id=ticket.ticket_number)
        assert simulated_exchange.ticket(ticket.ticket_number).status == "AdminCanceled"
    """
    run(pytester, source).assert_outcomes(passed=2)


def test_fixtures_can_be_built_on_them_and_put_in_their_place(pytester: pytest.Pytester) -> None:
    source = """
    from aioalphapoint.testing import SimulatedExchange

    @pytest_asyncio.fixture
    async def simulated_exchange():
        async with SimulatedExchange(oms_id=5) as exchange:
            exchange.add_user("alice", "simulated", account_id=7)
            yield exchange

    @pytest_asyncio.fixture
    async def bot(alphapoint_client):
        return await alphapoint_client.get_withdraw_tickets(account_id=7)

    @pytest.mark.asyncio
    async def test_it(simulated_exchange, alphapoint_client, bot):
        assert alphapoint_client.identity.oms_id == 5
        assert bot == []
    """
    run(pytester, source).assert_outcomes(passed=1)


def test_a_test_without_a_coroutine_may_look_at_both_where_pytest_asyncio_is(pytester: pytest.Pytester) -> None:
    source = """
    def test_it(simulated_exchange, alphapoint_client):
        assert alphapoint_client.state == "ready"
    """
    run(pytester, source).assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("mark", "options", "ini", "sentence"),
    [
        (
            "filterwarnings('error')",
            "-p no:asyncio",
            {},
            "simulated_exchange and alphapoint_client need a test that runs on an event loop: install pytest-asyncio, "
            "or mark the coroutine function with @pytest.mark.anyio",
        ),
        (
            "anyio",
            "",
            {"asyncio_mode": "auto"},
            "both pytest-asyncio and anyio run this test, on two event loops: take off the mark anyio, or set "
            "asyncio_mode to strict and take off the mark asyncio",
        ),
        (
            "parametrize('anyio_backend', ['trio'])",
            "-p no:asyncio --anyio-mode=auto",
            {},
            "aioalphapoint runs on asyncio, not on trio: let the fixture anyio_backend return 'asyncio'",
        ),
    ],
)
def test_what_cannot_work_is_one_clear_sentence(
    pytester: pytest.Pytester, mark: str, options: str, ini: dict[str, str], sentence: str
) -> None:
    result = run(pytester, f"\n    @pytest.mark.{mark}{TEST}", options=options, **ini)
    result.assert_outcomes(errors=1)
    assert sentence in result.stdout.lines


def test_a_run_that_uses_no_fixture_loads_nothing_of_the_library(tmp_path: Path) -> None:
    test = tmp_path / "test_nothing.py"
    test.write_text(
        "import sys\n"
        "def test_it():\n"
        "    assert 'pytest_aioalphapoint' in sys.modules\n"
        "    assert {'aioalphapoint', 'websockets', 'pydantic', 'pytest_asyncio'}.isdisjoint(sys.modules)\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:asyncio", "-p", "no:hypothesispytest", str(test)]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stdout
