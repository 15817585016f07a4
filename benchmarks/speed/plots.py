"""The plots of the documentation, drawn from what was measured.

The same figures give the same files, to the byte, with the same version of matplotlib.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from .peers import FLOOR, OURS, PEERS
from .result import spread

__all__ = ["draw"]

_Figures: TypeAlias = Mapping[str, Mapping[str, Any]]

# Told apart by lightness and shape, so that they can be in black and white.
_INK, _GREY, _PALE = "#12355b", "#7a8794", "#d5dbe1"
_MARKS = {"1": ("o", "white"), "100": ("s", _GREY), "1000": ("D", _INK)}
_SETTINGS = {
    "figure.dpi": 110,
    "savefig.dpi": 160,
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "svg.hashsalt": "aioalphapoint",
}


def draw(figures: _Figures, folder: Path) -> None:
    """Draw all plots, each as SVG and as PNG.

    Args:
        figures: What each scenario measured, as it was written into `figures.json`.
        folder: Where they go.
    """
    with mpl.rc_context(_SETTINGS):
        _save(_costs(figures["in_flight"]["seconds"]), folder / "cost")
        _save(_growth(figures["scale"]["seconds"], figures["in_flight"]["seconds"]), folder / "in-flight")
        _save(_times(figures["storm"], figures["latency"]), folder / "latency")


def _save(figure: Figure, path: Path) -> None:
    # matplotlib's own metadata hold a date and addresses.
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(path.with_suffix(".svg"), metadata=nothing)
    figure.savefig(path.with_suffix(".png"), metadata={"Software": None})
    svg = path.with_suffix(".svg")
    text = re.sub(r"<!DOCTYPE.*?>\n", "", svg.read_text(encoding="utf-8"), flags=re.DOTALL)
    svg.write_text("\n".join(map(str.rstrip, text.splitlines())) + "\n", encoding="utf-8")


def _costs(seconds: Mapping[str, Mapping[str, list[float]]]) -> Figure:
    figure = Figure(figsize=(8.2, 5.0), layout="constrained")
    axes = figure.add_subplot()
    names = [peer.name for peer in PEERS if any(seconds[peer.name].values())]
    for place, (at_once, (mark, colour)) in enumerate(_MARKS.items()):
        rows = [row for row, name in enumerate(names) if seconds[name][at_once]]
        costs = [spread(value * 1e6 for value in seconds[names[row]][at_once]) for row in rows]
        where = [row + (place - 1) * 0.27 for row in rows]
        errors = [[it.median - it.low for it in costs], [it.high - it.median for it in costs]]
        axes.errorbar(
            [it.median for it in costs],
            where,
            xerr=errors,
            fmt=mark,
            label=f"{int(at_once):,} in flight",
            **_mark(colour),
        )
        for cost, height in zip(costs, where, strict=True):
            axes.annotate(f"{cost.median:,.0f}", (cost.high, height), (7, 0), textcoords="offset points", **_BESIDE)
    axes.set_yticks(range(len(names)), [name.replace(": ", ":\n").replace(", table", ",\ntable") for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    for row in range(1, len(names)):
        axes.axhline(row - 0.5, color=_PALE, linewidth=0.6)
    _plain_log(axes.xaxis, axes.set_xscale)
    axes.margins(x=0.08)
    axes.set_xlabel("CPU time of the client's process a call, in µs (logarithmic)")
    axes.set_title("What a call costs: medians of all rounds, and their quartiles", pad=26)
    axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(-0.02, 0.99), ncols=3, fontsize=9)
    return figure


def _mark(colour: str) -> dict[str, Any]:
    return {"markerfacecolor": colour, "markeredgecolor": _INK, "ecolor": "black", "elinewidth": 0.8, "capsize": 2}


_BESIDE = {"va": "center", "fontsize": 8}


def _plain_log(axis: Any, set_scale: Callable[[str], object]) -> None:
    """Make an axis logarithmic, its numbers written out: 20 rather than 2 times 10 to the first."""
    set_scale("log")
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axis.set_minor_formatter(NullFormatter())


def _growth(ours: Mapping[str, list[float]], all_seconds: Mapping[str, Mapping[str, list[float]]]) -> Figure:
    figure = Figure(figsize=(7.4, 4.2), layout="constrained")
    axes = figure.add_subplot()
    mine = {int(at_once): values for at_once, values in ours.items()} | {1: all_seconds[OURS.name]["1"]}
    floor = {int(at_once): values for at_once, values in all_seconds[FLOOR.name].items()}
    for label, costs, colour, style in ((OURS.name, mine, _INK, "o-"), (FLOOR.name, floor, _GREY, "s--")):
        at_once = sorted(costs)
        spreads = [spread(value * 1e6 for value in costs[n]) for n in at_once]
        errors = [[it.median - it.low for it in spreads], [it.high - it.median for it in spreads]]
        axes.errorbar(at_once, [it.median for it in spreads], errors, fmt=style, color=colour, label=label, capsize=3)
    axes.set_xscale("log")
    axes.set_xticks([10**power for power in range(6)])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_ylim(bottom=0)
    axes.set_xlabel("calls in flight (logarithmic)")
    axes.set_ylabel("CPU time a call, in µs")
    axes.set_title("What a call costs, the more of them are under way")
    axes.legend(frameon=False)
    return figure


def _times(storm: Mapping[str, list[float]], latency: Mapping[str, list[float]]) -> Figure:
    figure = Figure(figsize=(8.6, 4.0), layout="constrained")
    near, far = figure.subplots(1, 2)
    for name, style, colour, label in (
        ("quiet", "-", _INK, "without events"),
        ("storm", "--", _GREY, "under 50,000\nevents a second"),
    ):
        shares = [100 * place / (len(storm[name]) + 1) for place in range(1, len(storm[name]) + 1)]
        near.plot([second * 1000 for second in storm[name]], shares, style, color=colour, label=label)
    _plain_log(near.xaxis, near.set_xscale)
    near.set_xlabel("time of a call, in ms (logarithmic)")
    near.set_ylim(0, 101)
    near.set_yticks([0, 25, 50, 75, 99])
    near.grid(axis="y", color=_PALE, linewidth=0.6)
    near.set_ylabel("% of the calls answered by then")
    near.set_title("100 in flight, on one machine")
    near.legend(frameon=False, fontsize=8, loc="lower right")
    medians = [1000 * spread(latency[name]).median for name in ("warm", "cold")]
    bars = far.barh((0, 1), medians, 0.5, color=(_INK, _PALE), edgecolor=_INK, linewidth=0.6)
    far.bar_label(bars, [f"{median:,.0f} ms" for median in medians], padding=4, fontsize=8)
    far.set_yticks((0, 1), ["the session\nthat stands", "a connection a call:\nTCP, TLS, WebSocket,\nlogin, call"])
    far.set_ylim(1.6, -0.6)
    far.set_xlim(0, max(medians) * 1.2)
    far.set_xlabel("time from the wish to the answer, in ms")
    far.set_title("TLS, 50 ms each way")
    return figure
