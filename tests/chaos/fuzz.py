"""A coverage-guided fuzzer for whatever reads the exchange's words: frames, JSON, replies, logins, events.

`make fuzz` runs it. It starts from the golden frames and the corpus, holds each message against the oracles, and keeps
in the corpus what reached code that nothing before it had reached. What fails is kept too: the suite, which replays
the corpus, is red until it is mended.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

from .frames import DOCUMENTS, KEYS, NAMES, ODD, Frames, golden, keep, kept, rendered

_LONGEST = 4096  # bytes of a message: enough to nest deeper than Python reads
_GENERATED = 500  # messages, and payloads, to begin with


def main() -> int:
    """Fuzz for a while, and keep what was found."""
    options = _options()
    if find_spec("atheris") is None:
        print("make fuzz needs the package atheris, which cannot be installed for this Python on this machine.")
        return 2
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        engine = _Engine(folder, [*kept(), *_seeds(options.seed)])
        outcome = engine.fuzz(seconds=options.seconds, seed=options.seed)
        failures = [path.read_bytes() for path in folder.glob("failed-*")]
        smallest = engine.smallest()
        keep([*smallest, *failures])
    for failure in failures:
        print(f"An oracle does not hold for {failure!r}; it stands in the corpus now.")
    print(f"{len(smallest)} messages in the corpus, {len(failures)} of them new and failing.")
    return 1 if failures or outcome else 0


class _Engine:
    """libFuzzer, with a folder for all that it reads and writes."""

    def __init__(self, folder: Path, messages: Iterable[bytes]) -> None:
        self._folder = folder
        self._found, self._merged, self._words = folder / "found", folder / "merged", folder / "words"
        self._found.mkdir()
        self._merged.mkdir()
        for number, message in enumerate(messages):
            (self._found / str(number)).write_bytes(message)
        self._words.write_text("".join(f'"{_quoted(word)}"\n' for word in (*KEYS, *NAMES, *ODD) if word))
        # It starts itself anew to merge, by the name that it was started by.
        self._program = folder / "engine"
        self._program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m chaos.engine "$0" "$@"\n')
        self._program.chmod(0o700)

    def fuzz(self, *, seconds: int, seed: int) -> int:
        """Fuzz for so many seconds, or until an oracle does not hold, and give the exit code."""
        return self._run(
            *(f"-max_total_time={seconds}", f"-seed={seed}", f"-dict={self._words}", "-timeout=10"),
            *(f"-artifact_prefix={self._folder}/failed-", "-print_final_stats=1", str(self._found)),
        )

    def smallest(self) -> list[bytes]:
        """Give the fewest and shortest messages that reach as much code as all that were found."""
        self._run("-merge=1", str(self._merged), str(self._found))
        return [path.read_bytes() for path in self._merged.iterdir()]

    def _run(self, *arguments: str) -> int:
        return subprocess.run([self._program, f"-max_len={_LONGEST}", *arguments], check=False).returncode


def _seeds(seed: int) -> Iterable[bytes]:
    yield from golden()
    frames = Frames(seed)
    for _ in range(_GENERATED):
        yield frames.message()[:_LONGEST]
        yield frames.payload().encode("utf-8", "surrogatepass")[:_LONGEST]
    for document in DOCUMENTS:
        payload = rendered(document.items())
        yield payload.encode()
        yield f"[{payload}]".encode()


def _quoted(word: str) -> str:
    data = word.encode("utf-8", "surrogatepass")[:64]
    return "".join(chr(byte) if chr(byte).isalnum() and byte < 128 else f"\\x{byte:02x}" for byte in data)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m chaos.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="how long (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="the fuzzer's seed (%(default)s)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
