"""Sphinx: Markdown pages, and a reference that is written from the code before every build."""

import sys
from pathlib import Path

from sphinx.application import Sphinx

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import generate  # noqa: E402 - beside this file

generate.write(generate.GENERATED)

project = "raymcu"
author = "the raymcu authors"
copyright = "2026, the raymcu authors"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
default_role = "code"
exclude_patterns = ["_build"]
autodoc_typehints = "description"
autodoc_member_order = "bysource"
html_theme = "furo"
html_title = "raymcu"


def setup(app: Sphinx) -> None:
    """Links out of the documentation become text, as the site has the documentation only."""

    def follow(_: Sphinx, name: str, source: list[str]) -> None:
        place = (HERE / name).parent
        if place != generate.GENERATED:
            source[0], _ = generate.within_docs(source[0], place, place)

    app.connect("source-read", follow)
