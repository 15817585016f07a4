"""How the pages become a site: Sphinx with furo and MyST, no network needed."""

import sys
from importlib.metadata import version as version_of
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "aioalphapoint"
release = version = version_of("aioalphapoint")

extensions = ["myst_parser", "sphinx.ext.autodoc", "docstrings", "names"]
exclude_patterns = ["_build", "drawings/node_modules", "proof", "speed"]  # tables that pages include
nitpicky = True
nitpick_ignore = [
    ("py:class", "aioalphapoint.testing.faults.Chance"),  # a random.Random is one
    ("py:class", "opentelemetry.metrics.MeterProvider"),  # documented by OpenTelemetry
    ("py:class", "opentelemetry.trace.TracerProvider"),  # likewise
]

myst_heading_anchors = 3
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 100

html_theme = "furo"
html_title = "aioalphapoint"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_copyright = False
html_show_sphinx = False
html_copy_source = False
html_theme_options = {"navigation_with_keys": True}
pygments_style = "friendly"
pygments_dark_style = "github-dark"
