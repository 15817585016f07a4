"""`make chaos`: the whole campaign, at full size, and its table."""

from __future__ import annotations

import argparse
import asyncio
import logging
import platform
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from .hostile import hostile_frames, late_replies
from .kills import kills
from .storm import Tally, storm
from .table import Line, markdown

_PROOF = Path(__file__).parents[2] / "docs/proof/chaos.md"

_MOST_TOLD = 20  # problems of one seed


def main(arguments: Sequence[str]) -> int:
    """Run the parts that were asked for, print their table, and say by the exit code whether every line holds."""
    options = _options(arguments)
    # What is broken on purpose is logged at WARNING, a thousand times over; what it comes to stands in the table.
    logging.basicConfig(handlers=[logging.NullHandler()])
    report = _Report()
    for name in options.parts or _PARTS:
        _say(f"{name} ...")
        report.lines += _PARTS[name](options, report)
    text = report.text(arguments)
    print(text)
    if options.write:
        _PROOF.parent.mkdir(exist_ok=True)
        _PROOF.write_text(text, encoding="utf-8")
    return 0 if report.holds else 1


class _Report:
    def __init__(self) -> None:
        self.lines: list[Line] = []
        self.problems: list[str] = []
        self.after: list[str] = []

    @property
    def holds(self) -> bool:
        return all(line.holds for line in self.lines) and not self.problems

    def text(self, arguments: Sequence[str]) -> str:
        now = datetime.now(UTC)
        command = shlex.join(["python", "-m", "chaos", *arguments])
        head = f"Seen on {now:%Y-%m-%d} with Python {platform.python_version()} by `{command}`.\n"
        problems = "".join(f"- {problem}\n" for problem in self.problems)
        return "\n".join([head, markdown(self.lines), *self.after, problems]).rstrip() + "\n"


def _storms(options: argparse.Namespace, report: _Report) -> Iterator[Line]:
    tallies: list[Tally] = []
    seeds = range(options.seed, options.seed + options.seeds)
    for seed in seeds:
        tally = asyncio.run(storm(seed, options.calls // options.seeds, options.disconnects // options.seeds))
        tallies.append(tally)
        _say(f"  seed {seed}: {tally.calls} calls, {tally.disconnects} disconnects, {len(tally.problems)} problems")
        for problem in tally.problems[:_MOST_TOLD]:
            _say(f"    {problem}")
            report.problems.append(f"seed {seed}: {problem}")

    def total(count: Callable[[Tally], int]) -> int:
        return sum(map(count, tallies))

    wrong = {
        "hung": total(lambda tally: tally.hung),
        "late": total(lambda tally: len(tally.late)),
        "at the wrong caller": total(lambda tally: tally.verdict.wrong_caller),
        "executed twice": total(lambda tally: tally.verdict.twice),
        "misreported": total(lambda tally: tally.verdict.misreported),
        "left behind": total(lambda tally: len(tally.left)),
    }
    ends = sum((tally.verdict.ends for tally in tallies), Counter[str]())
    latest = max(tally.worst_late for tally in tallies)
    calls, arrived = total(lambda tally: tally.calls), total(lambda tally: tally.verdict.arrived)
    yield Line(
        tried=f"{calls:,} calls, {arrived:,} of which arrived, up to "
        f"{max(tally.most_in_flight for tally in tallies):,} in flight, "
        f"{total(lambda tally: tally.disconnects):,} disconnects, seeds {seeds[0]} to {seeds[-1]}",
        seen=", ".join(f"{count} {name}" for name, count in wrong.items())
        + f"; the latest {1000 * latest:.0f} ms after its deadline beyond what the loop lagged",
        allowed="0 of each; late is 50 ms beyond what the loop lagged; of all calls one in twenty answered at least",
        holds=not any(wrong.values()) and ends["answered"] >= calls / 20,
    )
    faults = sum((tally.faults for tally in tallies), Counter[str]())
    report.after += [_ends(ends), _faults(faults)]


def _ends(ends: Counter[str]) -> str:
    words = ", ".join(f"{count:,} {name}" for name, count in ends.most_common())
    return f"How the calls of the storms ended: {words}.\n"


def _faults(faults: Counter[str]) -> str:
    rows = ["| the session was | what happened to it, and how often |", "| --- | --- |"]
    states = sorted({fault.split(": ")[0] for fault in faults})
    for state in states:
        names = {name: count for name, count in sorted(faults.items()) if name.startswith(f"{state}: ")}
        words = ", ".join(f"{name.split(': ')[1]} {count}" for name, count in names.items())
        rows.append(f"| {state} | {words} |")
    return "\n".join([*rows, ""])


def _frames(options: argparse.Namespace, _report: _Report) -> Iterator[Line]:
    yield asyncio.run(hostile_frames(options.seed, options.frames))


def _late(options: argparse.Namespace, _report: _Report) -> Iterator[Line]:
    yield asyncio.run(late_replies(options.seed, options.cancelled))


def _kills(options: argparse.Namespace, _report: _Report) -> Iterator[Line]:
    yield asyncio.run(kills(options.seed, options.tickets, options.kills))


_PARTS: dict[str, Callable[[argparse.Namespace, _Report], Iterator[Line]]] = {
    "storm": _storms,
    "frames": _frames,
    "late": _late,
    "kills": _kills,
}


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m chaos", description="Break the library's promises, or fail to.")
    parser.add_argument("parts", nargs="*", metavar="part", help=f"of {', '.join(_PARTS)}; all, where left out")
    parser.add_argument("--seed", type=int, default=1, help="the first seed (%(default)s)")
    parser.add_argument("--seeds", type=int, default=20, help="how many storms, a seed each (%(default)s)")
    parser.add_argument("--calls", type=int, default=100_000, help="calls of all storms together (%(default)s)")
    parser.add_argument("--disconnects", type=int, default=1_000, help="disconnects, likewise (%(default)s)")
    parser.add_argument("--frames", type=int, default=1_000_000, help="hostile frames (%(default)s)")
    parser.add_argument("--cancelled", type=int, default=10_000, help="cancelled calls with late replies (%(default)s)")
    parser.add_argument("--tickets", type=int, default=2_000, help="tickets of the bulk run (%(default)s)")
    parser.add_argument("--kills", type=int, default=100, help="kill -9 of it (%(default)s)")
    parser.add_argument("--write", action="store_true", help="write the table into the documentation, too")
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.parts if name not in _PARTS]:
        parser.error(f"there is no part {unknown[0]!r}; the parts are {', '.join(_PARTS)}")
    if options.write and options.parts:
        parser.error("--write takes all parts: the documentation shows them all")
    return options


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
