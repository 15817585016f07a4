"""The package as its users get it: built, installed in an environment of its own, run, and type-checked from outside.

One build and one installation serve all tests. Nothing of the checkout is on the installed program's path.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
from collections import Counter
from contextlib import suppress
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PROGRAM = ROOT / "tests" / "outside" / "program.py"
SECONDS = 50  # less than pytest lets a test hang
HINT = "installing the wheel needs the package index that pip is set up for"

needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="pyright needs Node, and there is none here")


def run(*command: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command that sees nothing of this environment but what it is given."""
    mine = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    with suppress(subprocess.TimeoutExpired):
        return subprocess.run(
            command, cwd=cwd, env=mine | environment, capture_output=True, text=True, timeout=SECONDS, check=False
        )
    pytest.fail(f"{' '.join(map(str, command))} took more than {SECONDS} s; {HINT}", pytrace=False)


def done(*command: str | Path, cwd: Path) -> str:
    outcome = run(*command, cwd=cwd)
    if outcome.returncode:
        pytest.fail(f"{' '.join(map(str, command))} failed; {HINT}\n{outcome.stderr}{outcome.stdout}", pytrace=False)
    return outcome.stdout


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make build` puts into dist/: the wheel is built from the source archive, not from the checkout."""
    directory = tmp_path_factory.mktemp("dist")
    done(sys.executable, "-m", "build", "--no-isolation", "--outdir", directory, ROOT, cwd=directory)
    return directory


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Path:
    return next(dist.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment that holds the wheel with its extra `cli`, and what that asks for."""
    home = tmp_path_factory.mktemp("installed")
    done(sys.executable, "-m", "venv", "--without-pip", home, cwd=home)
    binaries = home / ("Scripts" if os.name == "nt" else "bin")
    pip = [sys.executable, "-m", "pip", "--python", str(binaries / "python"), "--disable-pip-version-check"]
    options = ["--quiet", "--retries", "1", "--timeout", "15", "--constraint", str(ROOT / "constraints.txt")]
    done(*pip, "install", *options, f"{wheel}[cli]", cwd=home)
    return binaries


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A user's directory with the user's program."""
    shutil.copy(PROGRAM, tmp_path)
    return tmp_path


def test_the_wheel_holds_the_library_the_plugin_the_types_and_the_licence_and_nothing_else(wheel: Path) -> None:
    source = ROOT / "src"
    package = {path.relative_to(source).as_posix() for path in source.rglob("*.py")} | {"aioalphapoint/py.typed"}
    assert "pytest_aioalphapoint.py" in package
    names = {re.sub(r"^aioalphapoint-[^/]+\.dist-info/", "info/", name) for name in ZipFile(wheel).namelist()}
    info = {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"}
    assert names == package | {f"info/{name}" for name in info}


def test_the_source_archive_holds_all_that_make_test_needs(dist: Path) -> None:
    with tarfile.open(next(dist.glob("*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    folders = ("src", "tests", "examples", "docs", "benchmarks", ".ci")
    needed = {path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()}
    needed |= {ROOT / name for name in ("Makefile", "README.md", "LICENSE", "pyproject.toml")}
    needed |= set(ROOT.glob("constraints*.txt"))
    made = {"__pycache__", "_build"}
    missing = {path.relative_to(ROOT).as_posix() for path in needed if made.isdisjoint(path.parts)} - names
    assert not missing
    assert not [name for name in names if "__pycache__" in name or name.startswith((".venv", "dist"))]


def test_the_lowest_versions_that_the_suite_is_run_with_are_the_lowest_allowed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    required = [Requirement(text) for name in ("cli", "fleet", "otel", "testing") for text in extras[name]]
    required += [Requirement(text) for text in project["dependencies"]]
    bounds = {
        (it.name.lower(), Version(bound.version)) for it in required for bound in it.specifier if bound.operator == ">="
    }
    lines = (ROOT / "constraints-lowest.txt").read_text().splitlines()
    pinned = {
        (name.lower(), Version(version)) for name, equals, version in (it.partition("==") for it in lines) if equals
    }
    assert bounds <= pinned


def test_the_installed_library_is_imported_from_where_it_was_installed(installed: Path, elsewhere: Path) -> None:
    program = (
        "import sys, aioalphapoint, aioalphapoint.bulk, aioalphapoint.reconcile, aioalphapoint.testing\n"
        "print(aioalphapoint.__file__, *sys.path, sep='\\n')"
    )
    file, *path = done(installed / "python", "-c", program, cwd=elsewhere).splitlines()
    assert Path(file).is_relative_to(installed.parent)
    assert not [entry for entry in path if Path(entry).is_relative_to(ROOT)]


def test_the_installed_command_runs_the_demo(installed: Path, elsewhere: Path) -> None:
    outcome = run(installed / "aioalphapoint", "demo", cwd=elsewhere)
    assert (outcome.returncode, outcome.stderr) == (0, "")
    assert "after    ticket 292: 1.10 BTC, UserCanceled" in outcome.stdout


def test_without_the_extra_the_library_works_and_the_command_says_what_to_install(
    installed: Path, elsewhere: Path
) -> None:
    # An environment without the extra, at no cost: nothing that came with it can be imported.
    extra = [
        *("aiolimiter", "annotated_doc", "dotenv", "markdown_it", "mdurl"),
        *("pygments", "pyotp", "rich", "shellingham", "typer"),
    ]
    hide = f"import sys; sys.modules.update(dict.fromkeys({extra}))\n"
    library = f"{hide}import aioalphapoint, aioalphapoint.bulk, aioalphapoint.reconcile, aioalphapoint.testing"
    assert done(installed / "python", "-c", library, cwd=elsewhere) == ""
    command = f"{hide}from aioalphapoint.cli import main; main()"
    outcome = run(installed / "python", "-c", command, cwd=elsewhere)
    assert (outcome.returncode, outcome.stdout) == (2, "")
    assert outcome.stderr == "The command needs the package typer: pip install 'aioalphapoint[cli]'\n"


def expected(checker: str) -> Counter[tuple[int, str]]:
    """Read what a checker must report, from the marks: the line, and the name of the rule."""
    return Counter(
        (number, rule)
        for number, line in enumerate(PROGRAM.read_text().splitlines(), 1)
        for rules in re.findall(rf"# .*\b{checker}:((?: [A-Za-z-]+\b(?!:))+)", line)
        for rule in rules.split()
    )


def test_mypy_sees_each_mistake_of_a_user_and_no_other(installed: Path, elsewhere: Path) -> None:
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--python-executable"]
    report = run(*command, installed / "python", PROGRAM.name, cwd=elsewhere).stdout
    found = re.findall(rf"^{PROGRAM.name}:(\d+): error: .*\[([a-z-]+)\]$", report, re.MULTILINE)
    assert Counter((int(line), rule) for line, rule in found) == expected("mypy"), report


@needs_node
def test_pyright_sees_each_mistake_of_a_user_and_no_other(installed: Path, elsewhere: Path) -> None:
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath"]
    report = run(*command, installed / "python", PROGRAM.name, cwd=elsewhere).stdout
    found = json.loads(report)["generalDiagnostics"]
    assert Counter((it["range"]["start"]["line"] + 1, it["rule"]) for it in found) == expected("pyright"), report


@needs_node
def test_pyright_knows_the_type_of_every_public_name(installed: Path, elsewhere: Path) -> None:
    # It asks the first python on the path where packages are.
    path = f"{installed}{os.pathsep}{os.environ['PATH']}"
    command = [sys.executable, "-m", "pyright", "--outputjson", "--ignoreexternal", "--verifytypes", "aioalphapoint"]
    outcome = run(*command, cwd=elsewhere, PATH=path)
    report = json.loads(outcome.stdout)["typeCompleteness"]
    assert Path(report["packageRootDirectory"]).is_relative_to(installed.parent)
    exported = [symbol for symbol in report["symbols"] if symbol["isExported"]]
    assert len(exported) > 400
    assert {symbol["name"]: symbol["diagnostics"] for symbol in exported if not symbol["isTypeKnown"]} == {}
    assert report["completenessScore"] == 1
