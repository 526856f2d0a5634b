"""Sphinx builds the documentation: `make docs`."""

from hf_ast import __version__

project = "hf_ast"
copyright = "the hf_ast authors, Apache-2.0"
release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"hf_ast {release}"
html_show_sphinx = False

myst_heading_anchors = 3
# Links to files of the repository, which the tests follow; and names such as `start_s`, which several classes have
suppress_warnings = ["myst.xref_missing", "ref.python"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_class_signature = "mixed"
napoleon_google_docstring = True
napoleon_use_rtype = False
napoleon_use_ivar = True
