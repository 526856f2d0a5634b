"""Classification models as files that run without this package: ONNX, torch.export and AOTInductor.

`program.py` -> `onnx_file.py`, `package.py` -> `runtimes.py` -> `verification.py` -> `folder.py`
"""
