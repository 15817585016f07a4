"""The process in which libFuzzer runs: the library is instrumented before anything imports it.

Its arguments are the name that it was started by, and libFuzzer's own.
"""

import sys

import atheris

with atheris.instrument_imports(include=["aioalphapoint"]):
    from .oracles import check

if __name__ == "__main__":
    atheris.Setup(sys.argv[1:], check)
    atheris.Fuzz()
