"""A Space of the Hub: the page of `hf-ast demo`."""

from hf_ast.demo import launch

launch().block_thread()
