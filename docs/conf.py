"""Sphinx: Markdown pages, and a reference that is written from the code before every build."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import generate  # noqa: E402 - beside this file

generate.write(HERE / "reference" / "generated")

project = "raymcu"
author = "the raymcu authors"
copyright = "2026, the raymcu authors"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
autodoc_typehints = "description"
autodoc_member_order = "bysource"
html_theme = "furo"
html_title = "raymcu"
