"""Names of files and labels, which may hold anything, on their way to people: terminals, tables, model cards."""

import html
import re

# They would move the cursor, colour a terminal, end a line, or let a text read from right to left
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
# Without tabs and line breaks, for whole texts
CONTROL_IN_LINES = {code: escape for code, escape in CONTROL.items() if chr(code) not in "\t\n"}


def visible(text: str) -> str:
    """A name in one line: control characters become escapes, as in `repr`."""
    return text.translate(CONTROL)


def markdown(text: str) -> str:
    """A name as ordinary text of a Markdown page or of one of its tables, whatever it holds."""
    return re.sub(r"([\\`*_{}\[\]#|~:$@]|^[-+])", r"\\\1", html.escape(visible(text), quote=False))


def code(text: str) -> str:
    """A name between backticks or, in quotes, in a block of code: what would end these is replaced."""
    return re.sub(r"[\\`\"'|<>]", "_", visible(text))
