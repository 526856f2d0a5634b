"""Classification models as files that run without this package: ONNX, torch.export and AOTInductor.

`program.py` -> `onnx_file.py`, `package.py` -> `runtimes.py`, `verification.py` -> `folder.py`
"""

from .folder import Export, export_model
from .program import export_program

__all__ = ["Export", "export_model", "export_program"]
