"""`make bench`: everything is measured side by side, and told in a table and in plots."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from .machine import seen_on
from .result import Result, lines_table
from .scenarios.bulk import bulk
from .scenarios.imports import imports
from .scenarios.in_flight import in_flight
from .scenarios.latency import back, latency
from .scenarios.listing import listing
from .scenarios.scale import pending, scale
from .scenarios.storm import storm
from .stage import Stage

__all__ = ["SCENARIOS", "main"]

_SHOWN = Path(__file__).parents[2] / "docs/speed"

SCENARIOS: dict[str, Callable[[Stage], Result]] = {
    "in_flight": in_flight,
    "scale": scale,
    "pending": pending,
    "storm": storm,
    "listing": listing,
    "latency": latency,
    "back": back,
    "imports": imports,
    "bulk": bulk,
}


def main(arguments: Sequence[str]) -> int:
    """Measure what was asked for, print the tables, and say by the exit status whether every promise holds."""
    options = _options(arguments)
    results: dict[str, Result] = {}
    with Stage.built(is_quick=options.quick) as stage:
        for name in options.scenarios or SCENARIOS:
            started = time.monotonic()
            print(f"{name} ...", end=" ", file=sys.stderr, flush=True)
            results[name] = SCENARIOS[name](stage)
            print(f"{time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
        versions = {package: version for result in results.values() for package, version in result.versions.items()}
        head = seen_on(stage, shlex.join(["python", "-m", "speed", *arguments]), versions)
    lines = [line for result in results.values() for line in result.lines]
    tables = [text for result in results.values() for text in result.tables]
    text = "\n".join([head, lines_table(lines), *tables])
    print(text)
    if options.write:
        _write(text, {name: result.figures for name, result in results.items()})
    return 0 if all(result.holds for result in results.values()) else 1


def _write(text: str, figures: dict[str, dict[str, object]]) -> None:
    from .plots import draw  # noqa: PLC0415  (matplotlib is needed for nothing else)

    _SHOWN.mkdir(exist_ok=True)
    (_SHOWN / "table.md").write_text(text, encoding="utf-8")
    # Read as it will be: its keys are text.
    written = json.dumps(figures)
    (_SHOWN / "figures.json").write_text(f"{written}\n", encoding="utf-8")
    draw(json.loads(written), _SHOWN)


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m speed", description="Measure what a call costs, side by side.")
    parser.add_argument("scenarios", nargs="*", metavar="scenario", help=f"of {', '.join(SCENARIOS)}; all if left out")
    parser.add_argument("--quick", action="store_true", help="small sizes and few rounds: to see that it works")
    parser.add_argument("--write", action="store_true", help="write the tables and plots into the documentation, too")
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.scenarios if name not in SCENARIOS]:
        parser.error(f"there is no scenario {unknown[0]!r}; the scenarios are {', '.join(SCENARIOS)}")
    if options.write and (options.scenarios or options.quick):
        parser.error("--write takes everything at full size: the documentation shows it all")
    return options


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
