"""Make names of files and labels, which may contain anything, safe to show in terminals, tables and model cards."""

import html
import re

# Characters that would move the cursor, colour a terminal, end a line, or make a text read from right to left
CONTROL = {
    code: f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
    for code in (
        *range(32),
        *range(127, 160),
        0x200E,
        0x200F,
        0x2028,
        0x2029,
        *range(0x202A, 0x202F),
        *range(0x2066, 0x206A),
    )
}
# The same without tabs and line breaks, for whole texts
CONTROL_IN_LINES = {code: escape for code, escape in CONTROL.items() if chr(code) not in "\t\n"}


def visible(text: str) -> str:
    """Return a name on one line, with its control characters escaped as in `repr`."""
    return text.translate(CONTROL)


def storable(name: str) -> str:
    r"""Return a name as text that any file may hold: bytes that are not UTF-8, and lone surrogates, become `\udcXX`.

    Python stands for a byte XX of a file name that is not UTF-8 by the code point U+DCXX, which files of text and
    Parquet cannot hold.
    """
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def markdown(text: str) -> str:
    """Escape a name, whatever it contains, to be plain text on a Markdown page or in one of its tables."""
    return re.sub(r"([\\`*_{}\[\]#|~:$@]|^[-+])", r"\\\1", html.escape(visible(text), quote=False))


def code(text: str) -> str:
    """Prepare a name for backticks, or for quotes in a block of code: characters that would end these are replaced."""
    return re.sub(r"[\\`\"'|<>]", "_", visible(text))
