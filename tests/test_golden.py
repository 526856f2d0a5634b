"""Recorded outputs of the official code against ours, through the production converter, models and front ends.

`HF_AST_GOLDEN_CASES` may name another folder of cases; layouts and generators are read from the folder above it.
"""

from pathlib import Path

import pytest

from tests.support import golden_ast, golden_fpasst, golden_maest, golden_passt, golden_ssast
from tests.support.golden_common import CASES, INDEX, check

FAMILIES = (golden_ast, golden_ssast, golden_passt, golden_fpasst, golden_maest)
RUNNERS = {family: run for module in FAMILIES for family, run in module.RUNNERS.items()}


@pytest.mark.parametrize("case", INDEX)
def test_golden(case: str, tmp_path: Path) -> None:
    entry = INDEX[case] | {"_folder": CASES.name}
    if entry["family"] == "frontend_maest":
        assert golden_maest.compare_front_end(entry) == []
        return
    run = RUNNERS[entry["family"]]
    inputs = check.build_inputs(entry)
    if "official_raises" in entry["config"]:
        with pytest.raises(ValueError, match="sample"):
            run(entry, inputs, tmp_path)
        return
    rows = check.compare(entry, run(entry, inputs, tmp_path))
    assert rows, "the case compares nothing"
    bad = [
        f"{row['array']}: {row['status']}, error {row['max_abs_err']}, atol {row['atol']}"
        for row in rows
        if row["status"] != "ok"
    ]
    assert not bad, "\n".join(bad)
