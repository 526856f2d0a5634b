"""The generator of remote code, on files made for it and on those of the package."""

import subprocess
import sys
from pathlib import Path

import pytest

from hf_ast.remote_code.generator import generate
from hf_ast.remote_code.sources import GeneratorError
from tests.support.interpreter import PACKAGE, ROOT

ROLES = ("configuration_", "modeling_", "feature_extraction_")
SHARED = ("_common", "_checks", "_native")
ROOTS = sorted(
    path.name
    for path in (PACKAGE / "models").glob("*.py")
    if path.name.startswith(ROLES) and not path.stem.endswith(SHARED)
)
PARTS = '''\
"""Parts.

The reason for them.
"""

import math
from itertools import chain


# Why it is two
TWO = 2


def double(value):
    return TWO * value  # twice


def unused(value):
    return math.sqrt(value)


def joined(values):
    return list(chain(*values))
'''
CONFIGURATION = '"""Config."""\n\nfrom .parts import TWO\n\nVALUE = TWO\n'
MODELING = '''\
"""Model."""

from .configuration_x import VALUE
from .parts import double, joined


def result():
    return double(VALUE), joined([])
'''


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    return folder / "modeling_x.py"


def test_definitions_are_taken_as_needed_with_their_comments_and_once(tmp_path: Path) -> None:
    files = generate(write(tmp_path, parts=PARTS, configuration_x=CONFIGURATION, modeling_x=MODELING))
    assert sorted(files) == ["configuration_x.py", "modeling_x.py"]
    config, model = files["configuration_x.py"], files["modeling_x.py"]
    assert "# parts.py\n#\n# Parts.\n#\n# The reason for them.\n" in config
    assert "# Why it is two\nTWO = 2" in config
    assert "def " not in config
    assert "from .configuration_x import TWO, VALUE\n" in model
    assert "TWO = 2" not in model
    assert "    return TWO * value  # twice\n" in model
    assert "from itertools import chain\n" in model
    assert "unused" not in model
    assert "math" not in model


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"other": '"""Other."""\n\n\ndef double(value):\n    return value\n\n\ndef use():\n    return double(1)\n'},
         r"double is in .*(parts|other)\.py and in .*(parts|other)\.py; rename one"),
        ({"other": '"""Other."""\n\nfrom random import sample as chain\n\n\ndef use():\n    return chain([1], 1)\n'},
         r"chain is in .* rename one"),
        ({"other": '"""Other."""\n\n\ndef sum(values):\n    return 0\n\n\ndef use():\n    return sum([])\n'},
         r"\['sum'\] are names of Python's own"),
        ({"other": '"""Other."""\n\nfrom .parts import double as twice\n\n\ndef use():\n    return twice(1)\n'},
         r"import from a sibling by `from \.sibling import name`"),
        ({"other": '"""Other."""\n\n\ndef use():\n    from .parts import double\n    return double(1)\n'},
         "import siblings at the top of the file"),
        ({"other": '"""Other."""\n\nfrom hf_ast.audio import read\n\n\ndef use():\n    return read\n'},
         r"imports read from hf_ast\.audio, which no Hub folder has"),
        ({"other": '"""Other."""\n\nfrom math import *\n\n\ndef use():\n    return sqrt(1)\n'}, "import single names"),
    ],
)  # fmt: skip
def test_what_cannot_be_one_file_is_an_error(files: dict[str, str], message: str, tmp_path: Path) -> None:
    modeling = MODELING.replace("from .parts", "from .other import use\nfrom .parts") + "\n\nUSED = use()\n"
    path = write(tmp_path, parts=PARTS, configuration_x=CONFIGURATION, modeling_x=modeling, **files)
    with pytest.raises(GeneratorError, match=message):
        generate(path)


@pytest.mark.parametrize("name", ROOTS)
def test_files_of_the_package_become_complete_readable_files(name: str, tmp_path: Path) -> None:
    """ruff finds no unknown, unused or doubly defined name, no import out of order, and nothing to format."""
    files = generate(PACKAGE / "models" / name)
    assert name in files
    for file, text in files.items():
        (tmp_path / file).write_text(text)
        assert "hf_ast." not in "".join(line for line in text.splitlines() if line.startswith(("import", "from")))
    ruff = [sys.executable, "-m", "ruff"]
    settings = ["--config", str(ROOT / "pyproject.toml"), "--no-cache", str(tmp_path)]
    for command in (["check", "--select", "F,I", *settings], ["format", "--check", *settings]):
        result = subprocess.run([*ruff, *command], capture_output=True, text=True)
        assert result.returncode == 0, result.stdout + result.stderr
