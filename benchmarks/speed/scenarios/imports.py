"""What `import aioalphapoint` costs, beside what it stands on: the figures of `import_time`."""

from __future__ import annotations

from import_time import ALLOWED, ROUNDS, cpu_times
from speed.result import Line, Result, spread
from speed.stage import Stage

__all__ = ["imports"]


def imports(stage: Stage) -> Result:
    """Import it in fresh processes, in turn with what it stands on."""
    times = cpu_times(2 if stage.is_quick else ROUNDS)
    empty, _, in_use, ours = times.values()
    ratio = spread(
        (mine - nothing) / (theirs - nothing) for mine, theirs, nothing in zip(ours, in_use, empty, strict=True)
    )
    times_alone = [spread(values).words("ms", 1000) for values in (ours, empty)]
    seen = f"{ratio.words('times')}; {times_alone[0]}, an empty interpreter {times_alone[1]}"
    what = "CPU of `import aioalphapoint`, against pydantic with a model, websockets and anyio"
    return Result([Line(what, seen, f"≤ {ALLOWED} times", ratio.median <= ALLOWED)], figures={"seconds": times})
