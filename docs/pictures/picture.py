"""Make a picture of what a terminal shows: ANSI text on standard input, SVG on standard output.

    tmux capture-pane -p -e -t SESSION | python docs/pictures/picture.py TITLE COLUMNS > PICTURE.svg

The picture has a background of its own, so it is legible on a light page and on a dark one.
"""

import io
import re
import sys

from rich.console import Console
from rich.text import Text


def picture(shown: str, title: str, columns: int) -> str:
    """Draw it. Rich's template fetches a font by its address, and names another; both are left out."""
    console = Console(record=True, width=columns, file=io.StringIO(), force_terminal=True, legacy_windows=False)
    console.print(Text.from_ansi(shown.rstrip()), soft_wrap=True)
    svg = console.export_svg(title=title, unique_id=re.sub(r"\W", "", title))
    svg = re.sub(r"@font-face \{.*?\}\s*|<!--.*?-->\s*", "", svg, flags=re.DOTALL)
    return svg.replace("Fira Code", "ui-monospace, Menlo")


if __name__ == "__main__":
    sys.stdout.write(picture(sys.stdin.read(), sys.argv[1], int(sys.argv[2])))
