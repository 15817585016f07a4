"""Where, when and with what was measured."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from .stage import Stage

__all__ = ["seen_on"]


def seen_on(stage: Stage, command: str, versions: Mapping[str, str]) -> str:
    """Say in Markdown where and when this is measured, by which command, and with which versions of what."""
    measured, others = stage.cores
    if measured is None:
        places = "the system chose the cores"
    elif measured == others:
        places = "all of it on one core"
    else:
        places = "whoever is measured on one core, the exchange on another"
    return (
        f"Measured on {datetime.now(UTC):%Y-%m-%d} by `{command}` in the folder `benchmarks`, with "
        f"{platform.python_implementation()} {platform.python_version()} on {platform.system()}, {_processor()}, "
        f"{os.cpu_count()} cores: {places}.{_list(versions)}\n"
    )


def _list(versions: Mapping[str, str]) -> str:
    return f" {', '.join(f'{package} {version}' for package, version in versions.items())}." if versions else ""


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()
