"""The model that comes with the package, and recordings to try it with."""

from pathlib import Path

EMBEDDED_MODEL = Path(__file__).parent / "ast-keywords"
RECORDINGS = EMBEDDED_MODEL / "recordings"
