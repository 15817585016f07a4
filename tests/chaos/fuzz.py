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
        found, kept_before, failed = folder / "found", folder / "kept", folder / "failed-"
        for directory, messages in ((found, _seeds(options.seed)), (kept_before, kept())):
            directory.mkdir()
            _write(directory, messages)
        (folder / "words").write_text("".join(f'"{_quoted(word)}"\n' for word in (*KEYS, *NAMES, *ODD) if word))
        run = _Run(folder)
        outcome = run.fuzz(found, kept_before, seconds=options.seconds, seed=options.seed)
        failures = [path.read_bytes() for path in folder.glob(f"{failed.name}*")]
        smallest = run.smallest(kept_before, found)
        keep([*smallest, *failures])
    for failure in failures:
        print(f"An oracle does not hold for {failure!r}; it stands in the corpus now.")
    print(f"{len(smallest)} messages in the corpus, {len(failures)} of them new and failing.")
    return 1 if failures or outcome else 0


class _Run:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def fuzz(self, found: Path, others: Path, *, seconds: int, seed: int) -> int:
        options = [
            f"-max_total_time={seconds}",
            f"-seed={seed}",
            f"-max_len={_LONGEST}",
            "-timeout=10",
            "-rss_limit_mb=2048",
        ]
        options += [
            f"-dict={self._folder / 'words'}",
            f"-artifact_prefix={self._folder / 'failed-'}",
            "-print_final_stats=1",
        ]
        return self._atheris(*options, str(found), str(others))

    def smallest(self, *sources: Path) -> list[bytes]:
        """Give the fewest and shortest messages that reach as much code as all of these."""
        merged = self._folder / "merged"
        merged.mkdir()
        self._atheris("-merge=1", f"-max_len={_LONGEST}", str(merged), *map(str, sources))
        return [path.read_bytes() for path in merged.iterdir()]

    def _atheris(self, *arguments: str) -> int:
        # libFuzzer starts itself anew to merge, by the name that it was started by.
        program = self._folder / "engine"
        if not program.exists():
            call = shlex.join([sys.executable, "-m", "chaos.engine"])
            program.write_text(f'#!/bin/sh\nexec {call} "$0" "$@"\n')
            program.chmod(0o700)
        return subprocess.run([program, *arguments], check=False).returncode


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


def _write(folder: Path, messages: Iterable[bytes]) -> None:
    for number, message in enumerate(messages):
        (folder / str(number)).write_bytes(message)


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
