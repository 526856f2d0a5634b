"""Run a guide as a reader would: its commands and its Python, one after the other, in an empty folder.

    python -m docs.guides.run docs/guides/keyword-spotter.md --folder build/guides

What a block prints takes the place of the text block that follows it in the page, and the pictures that the page shows
are copied to it, so that a guide shows what was measured.
"""

import argparse
import io
import re
import runpy
import shlex
import sys
from collections.abc import Mapping
from contextlib import chdir, redirect_stdout
from pathlib import Path
from typing import Any

from PIL import Image

from hf_ast.cli import main as hf_ast_main

BLOCK = re.compile(r"^```(bash|python|text)\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)
LOG = re.compile(r"^\{'.*\}\n", flags=re.MULTILINE)  # a line that `Trainer` prints, too many of them for a page
PICTURE = re.compile(r"!\[[^\]]*\]\((\S+\.png)\)")


def run_guide(text: str, folder: Path, changes: Mapping[str, str] | None = None) -> list[str]:
    """Run the blocks of a page.

    Args:
        text: The page.
        folder: Where they run; an empty one.
        changes: Parts of the page, and what takes their place, such as fewer steps.

    Returns:
        What each block prints to stdout without the log of `Trainer`, those in `bash` and `python`, in their order.

    Raises:
        ValueError: The page does not hold a part that is to be changed.
        RuntimeError: A command failed.
    """
    for part, replacement in (changes or {}).items():
        if part not in text:
            raise ValueError(f"changes has {part!r}, which the page does not hold.")
        text = text.replace(part, replacement)
    folder.mkdir(parents=True, exist_ok=True)
    outputs = []
    variables: dict[str, Any] = {"__name__": "__main__"}
    with chdir(folder):
        for language, code in BLOCK.findall(text):
            if language == "text":
                continue
            with redirect_stdout(io.StringIO()) as printed:
                if language == "python":
                    exec(compile(code, "<guide>", "exec"), variables)
                else:
                    run_commands(code)
            outputs.append(LOG.sub("", printed.getvalue()))
    return outputs


def run_commands(code: str) -> None:
    """Run the lines of a block that call `hf-ast` or `python`, in this process; others, as of pip, are left out."""
    for line in code.replace("\\\n", " ").splitlines():
        program, *arguments = shlex.split(line, comments=True) or [""]
        status: Any = 0
        if program == "hf-ast":
            status = hf_ast_main(arguments)
        elif program == "python":
            status = run_python(arguments)
        if status:
            raise RuntimeError(f"{line} ended with status {status}.")


def run_python(arguments: list[str]) -> int | str | None:
    """Run `python -m MODULE ...` or `python FILE ...`, and return the exit status."""
    is_module = arguments[0] == "-m"
    name, *rest = arguments[is_module:]
    before = sys.argv
    sys.argv = [name, *rest]
    try:
        if is_module:
            runpy.run_module(name, run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(name, run_name="__main__")
    except SystemExit as end:
        return end.code
    finally:
        sys.argv = before
    return 0


def with_outputs(text: str, outputs: list[str]) -> str:
    """Put what the blocks of a page print into the text blocks that follow them."""
    remaining = iter(outputs)
    latest = ""

    def update(block: re.Match[str]) -> str:
        nonlocal latest
        if block[1] == "text":
            return f"```text\n{latest.rstrip()}\n```"
        latest = next(remaining)
        return block[0]

    return BLOCK.sub(update, text)


def copy_pictures(page: Path, folder: Path) -> None:
    """Copy the pictures of a page from the folder in which it ran, in 256 colours, a third of the size."""
    for link in PICTURE.findall(page.read_text(encoding="utf-8")):
        target = page.parent / link
        target.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(folder / target.name) as picture:
            picture.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(target, optimize=True)


def main() -> None:
    """Run pages, and write their outputs and pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", nargs="+", type=Path)
    parser.add_argument("--folder", type=Path, default=Path("build/guides"), help="with an empty folder for each page")
    arguments = parser.parse_args()
    for page in arguments.pages:
        folder = arguments.folder / page.stem
        if folder.exists():
            raise SystemExit(f"{folder} exists; remove it, or give another --folder.")
        text = page.read_text(encoding="utf-8")
        page.write_text(with_outputs(text, run_guide(text, folder.resolve())), encoding="utf-8")
        copy_pictures(page, folder)


if __name__ == "__main__":
    main()
