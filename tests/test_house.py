"""The house: which module may import which, what is public, and that it says what it does."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import aioalphapoint
import aioalphapoint.bulk
import aioalphapoint.otel
import aioalphapoint.reconcile
import aioalphapoint.testing

PACKAGE = Path(aioalphapoint.__file__).parent

# What each module may import of the package. Dependencies point down only; below `_pending` there is no I/O.
PURE = {
    "errors": {"models"},  # for the type checker alone
    "statuses": set(),
    "stats": set(),
    "_envelope": set(),
    "_logging": set(),
    "models": {"_envelope", "statuses"},
    "_arguments": {"errors"},
    "_secrets": {"_envelope"},
    "_auth": {"_arguments", "_envelope", "_secrets", "errors", "models"},
    "_backoff": {"_arguments", "errors"},
    "_replies": {"_envelope", "_secrets", "errors", "models"},
    "_requests": {"_arguments", "_envelope", "errors"},
    "_steps": set(),
    "_outcomes": {"_arguments", "_steps", "errors", "models"},
    "cli.exits": {"", "bulk"},
    "cli.report": {"", "bulk", "errors"},
    "cli.ticket_lists": {"", "_envelope", "cli.exits"},
    "testing.answers": {"_envelope", "models"},
    "testing.exchange": {"_envelope", "models", "statuses"}
    | {"testing.answers", "testing.logins", "testing.rows", "testing.users"},
    "testing.faults": set(),
    "testing.journal": set(),
    "testing.logins": {"_envelope", "testing.answers", "testing.users"},
    "testing.rows": {"_envelope", "models"},
    "testing.users": set(),
}
ABOVE = {
    "_process": set(),
    "_home": {"_process"},
    "_news": set(),
    "_deadlines": set(),
    "_pending": {"_deadlines", "_envelope", "errors", "stats"},
    "_wire": {"_envelope", "_secrets"},
    "_telemetry": {"_logging", "stats"},
    "_frames": set(),
    "_socket": {"_frames", "_process", "errors"},
    "_connection": {"_envelope", "_logging", "_pending", "_secrets", "_socket", "_wire", "errors", "stats"},
    "_events": {"_envelope", "_news", "stats"},
    "_limiter": {"_logging", "errors"},
    "_login": {"_auth", "_connection", "_envelope", "_replies", "_secrets", "errors", "models"},
    "_settings": {"_auth", "_backoff", "_telemetry"},
    "_state": set(),
    "_session": {"_logging", "_backoff", "_connection", "_envelope", "_events", "_home", "_login"}
    | {"_news", "_settings", "_state", "errors", "models", "stats"},
    "_calls": {"_arguments", "_connection", "_envelope", "_limiter", "_secrets", "_session", "errors", "stats"},
    "_pages": {"_arguments", "errors", "models"},
    "_subscription": {"_envelope", "_events", "errors", "models"},
    "_turns": set(),
    "_caller": {"_envelope", "_events", "_requests"},
    "_functions": {"_caller", "_envelope", "_events", "_pages", "_replies", "_requests", "_subscription", "models"},
    "client": {
        "_arguments",
        "_auth",
        "_backoff",
        "_calls",
        "_envelope",
        "_events",
        "_functions",
        "_replies",
        "_session",
        "_settings",
        "_state",
    }
    | {"_telemetry", "_turns", "errors", "models", "stats"},
    "_totals": {"stats"},
    "otel": {"_totals", "errors", "stats"},
    "_watch": {"_events", "_state", "_subscription", "client", "errors", "models", "statuses"},
    "_journal": {"_steps", "errors"},
    "_bulk": {"_arguments", "_journal", "_logging", "_outcomes", "_steps", "_turns", "_watch", "client"}
    | {"errors", "models"},
    "bulk": {"_bulk", "_journal", "_outcomes", "_steps", "client"},
    "reconcile": {"_arguments", "_watch", "client", "models"},
    "testing.guests": {"_envelope", "testing.users"},
    "testing.server": {"_envelope", "_logging", "models", "testing.answers", "testing.exchange", "testing.faults"}
    | {"testing.guests", "testing.journal", "testing.logins", "testing.rows", "testing.users"},
    "testing": {"testing.faults", "testing.journal", "testing.server", "testing.users"},
    "cli": {"cli._app", "cli.screen"},
    "cli._app": {"", "cli.calls", "cli.demo", "cli.exits", "cli.many", "cli.one", "cli.options", "cli.ping"}
    | {"cli.screen", "cli.session", "cli.simulate", "cli.ticket_lists", "cli.tickets"},
    "cli.access": {"", "cli.exits"},
    "cli.calls": {"", "_envelope", "cli.exits", "cli.session"},
    "cli.demo": {"", "errors", "models", "testing"},
    "cli.listing": {"", "cli.screen"},
    "cli.many": {"", "bulk", "cli.exits", "cli.listing", "cli.progress", "cli.report", "cli.screen", "cli.session"}
    | {"cli.terminal", "cli.ticket_lists"},
    "cli.one": {"", "bulk", "reconcile", "cli.exits", "cli.listing", "cli.report", "cli.screen", "cli.session"},
    "cli.options": set(),
    "cli.ping": {"", "cli.exits", "cli.screen", "cli.session"},
    "cli.progress": {"", "bulk"},
    "cli.screen": {"", "_envelope", "cli.exits", "cli.terminal"},
    "cli.session": {"", "cli.access", "cli.exits", "cli.screen"},
    "cli.simulate": {"testing"},
    "cli.terminal": {"cli.exits"},
    "cli.tickets": {"", "cli.exits", "cli.listing", "cli.report", "cli.session"},
}
IMPURE = {"asyncio", "anyio", "websockets", "random", "time", "logging", "socket", "secrets", "uuid4"}


def imports(module: str) -> tuple[set[str], set[str]]:
    """Give what a module imports of the package, and from elsewhere."""
    path = PACKAGE.joinpath(*module.split("."))
    source = (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text()
    inside, outside = set(), set()
    parent = module.split(".") if path.is_dir() else module.split(".")[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            outside |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level:
            inside.add(".".join([*parent, node.module or ""]))
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "aioalphapoint":
            inside.add(node.module.removeprefix("aioalphapoint").removeprefix("."))
        elif isinstance(node, ast.ImportFrom) and node.module:
            outside.add(node.module.split(".")[0])
    return inside, outside


@pytest.mark.parametrize(("module", "allowed"), (PURE | ABOVE).items())
def test_dependencies_point_down_only(module: str, allowed: set[str]) -> None:
    assert imports(module)[0] <= allowed


@pytest.mark.parametrize("module", sorted(PURE.keys() - {"_logging"}))
def test_the_core_knows_no_io_no_clock_and_no_chance(module: str) -> None:
    assert imports(module)[1].isdisjoint(IMPURE)


def test_every_module_has_its_place() -> None:
    modules = {".".join(path.relative_to(PACKAGE).with_suffix("").parts) for path in PACKAGE.rglob("*.py")}
    assert {name.removesuffix(".__init__") for name in modules} - {"__init__"} == (PURE | ABOVE).keys()


@pytest.mark.parametrize(
    "module",
    [aioalphapoint, aioalphapoint.testing, aioalphapoint.reconcile, aioalphapoint.bulk, aioalphapoint.otel],
    ids=lambda it: it.__name__,
)
def test_what_is_public_is_sorted_importable_and_documented(module: object) -> None:
    names: list[str] = module.__all__  # type: ignore[attr-defined]  # a module has it
    assert names == sorted(set(names))
    for name in names:
        value = getattr(module, name)
        if not inspect.isclass(value):
            assert not inspect.isfunction(value) or inspect.getdoc(value), name
            continue
        assert inspect.getdoc(value), name
        ours = [base for base in value.__mro__ if base.__module__.startswith("aioalphapoint")]
        members = {member: method for base in reversed(ours) for member, method in vars(base).items()}
        for member, method in members.items():
            if not member.startswith("_") and (inspect.isfunction(method) or isinstance(method, property)):
                assert inspect.getdoc(method), f"{name}.{member}"


def test_the_public_names_of_this_stage_are_there() -> None:
    promised = {
        *(
            "Client",
            "ApiKey",
            "Password",
            "SessionToken",
            "Backoff",
            "StandardResponse",
            "Withdraw",
            "WithdrawTicket",
            "WithdrawStatus",
            "Identity",
        ),
        *("SessionState", "Stats", "AlphaPointError", "CallNotSent", "ConnectFailed", "NotConnected"),
        *("InvalidArguments", "Overloaded", "OutcomeUnknown", "ConnectionLost", "CallTimeout", "UnexpectedReply"),
        *("CallRejected", "NotAuthorized", "InvalidRequest", "OperationFailed", "ServerError", "ResourceNotFound"),
        *("OperationNotSupported", "AuthenticationFailed"),
    }
    assert promised <= set(aioalphapoint.__all__)
    assert "confirm_cancelled" in aioalphapoint.reconcile.__all__
    assert {"cancel_withdraws", "cancel_failed_tickets", "Outcome", "Journal"} <= set(aioalphapoint.bulk.__all__)


# What the library stands on, in use: pydantic loads its parts with the first model.
FOUNDATION = "import anyio, pydantic, websockets.asyncio.client\nclass Model(pydantic.BaseModel):\n    x: int"
# What it may load beyond that. Each module more is paid for by every program that imports the library.
STANDARD = {"_json", "json", "json.decoder", "json.encoder", "json.scanner"}
OWN = {
    *("_arguments", "_auth", "_backoff", "_connection", "_envelope", "_events", "_functions", "_limiter", "_logging"),
    *("_caller", "_calls", "_deadlines", "_frames", "_socket", "_turns"),
    *("_home", "_news", "_process", "_secrets", "_settings", "_state", "_telemetry", "_wire"),
    *("_login", "_pages", "_pending", "_replies", "_requests", "_session", "_subscription", "client", "errors"),
    *("models", "stats", "statuses"),
}


def loaded_by(program: str) -> set[str]:
    command = [sys.executable, "-I", "-c", f"{program}\nimport sys\nprint(*sys.modules)"]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())


def test_importing_the_library_loads_what_it_stands_on_and_next_to_nothing_else() -> None:
    beyond = loaded_by("import aioalphapoint") - loaded_by(FOUNDATION)
    own = {f"aioalphapoint.{name}" for name in OWN} | {"aioalphapoint"}
    # Which inner parts pydantic needs for a model is its own affair.
    assert {name for name in beyond if not name.startswith("pydantic.")} - STANDARD == own


def test_importing_the_library_loads_no_extra() -> None:
    loaded = loaded_by("import aioalphapoint, aioalphapoint.testing")
    assert {"typer", "rich", "click", "pytest", "opentelemetry", "aioalphapoint._journal"}.isdisjoint(loaded)
