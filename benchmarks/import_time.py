"""What `import aioalphapoint` costs, beside what it stands on: CPU time of fresh processes, in turn, medians.

python benchmarks/import_time.py

The yardstick imports pydantic, websockets' asyncio client and anyio, and defines one model: `import pydantic` alone
loads a shell, whose parts come with the first model, so it tells nothing of what pydantic takes. The bare imports are
shown too. The time of an empty interpreter is taken off everything.
"""

import resource
import statistics
import subprocess
import sys

BARE = "import pydantic, websockets.asyncio.client, anyio"
IN_USE = f"{BARE}\nclass Model(pydantic.BaseModel):\n    x: int"
PROGRAMS = {
    "an empty interpreter": "",
    "pydantic, websockets, anyio: bare": BARE,
    "pydantic, websockets, anyio: in use": IN_USE,
    "aioalphapoint": "import aioalphapoint",
}
ALLOWED = 1.2
ROUNDS = 20


def cpu_seconds(program: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-I", "-c", program], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def cpu_times(rounds: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    for turn in range(rounds + 1):
        for name, program in PROGRAMS.items():
            seconds = cpu_seconds(program)
            if turn:  # the first one writes the bytecode
                times[name].append(seconds)
    return times


def main() -> None:
    times = cpu_times(ROUNDS)
    medians = {name: statistics.median(values) * 1000 for name, values in times.items()}
    empty, bare, in_use, ours = medians.values()
    for name, milliseconds in medians.items():
        print(f"{name:36} {milliseconds:6.1f} ms")
    ratio = (ours - empty) / (in_use - empty)
    print(f"ratio to what they take in use: {ratio:.2f} (allowed: {ALLOWED}); to their bare imports: ", end="")
    print(f"{(ours - empty) / (bare - empty):.2f}")
    sys.exit(ratio > ALLOWED)


if __name__ == "__main__":
    main()
