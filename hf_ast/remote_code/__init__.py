"""The code in a Hub folder: one self-contained file per role, generated from `hf_ast/models` when a folder is saved.

It opens with `trust_remote_code=True` where `hf_ast` is not installed, also on versions of transformers that the
package itself does not support; `older/` holds what those lack. This room imports nothing of the others, and
`hf_ast/models` uses it only to save.
"""

from .saving import generated_code as generated_code
