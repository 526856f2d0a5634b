"""The Python in docs/front-ends.md runs as it stands."""

import re

from tests.support.interpreter import ROOT

PAGE = (ROOT / "docs" / "front-ends.md").read_text()


def test_snippets_run_in_their_order() -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    assert len(blocks) == 4
    exec("\n".join(blocks), {})  # they hold their own assertions
