"""The Python in the pages about inference runs as it stands, in the order of the page."""

import re

import pytest

from tests.support.interpreter import ROOT


@pytest.mark.parametrize(("page", "num_snippets"), [("long-recordings", 4)])
def test_snippets_run_in_their_order(page: str, num_snippets: int) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / f"{page}.md").read_text(), flags=re.DOTALL)
    assert len(blocks) == num_snippets
    exec("\n".join(blocks), {})  # they hold their own assertions
