"""Recorded outputs of the official code against ours, through the production converter, models and front ends.

`HF_AST_GOLDEN_CASES` may name another folder of cases, of which none is slow; layouts and generators are read from the
folder above it.
"""

import os
from pathlib import Path
from typing import Any

import pytest

from tests.support import golden_ast, golden_fpasst, golden_maest, golden_passt, golden_ssast
from tests.support.golden_common import CASES, INDEX, check, layout_config

FAMILIES = (golden_ast, golden_ssast, golden_passt, golden_fpasst, golden_maest)
RUNNERS = {family: run for module in FAMILIES for family, run in module.RUNNERS.items()}


# A case of base size takes up to ten seconds: these are in the fast tests, the others in the slow ones
FAST_AT_BASE_SIZE = ("ast_ft_t512_l50", "maest_5s", "passt_s_swa_t500", "ssast_ft_base_patch_f10_t512_l50")


def parameter(case: str) -> Any:
    is_base = bool(INDEX[case].get("layout")) and layout_config(INDEX[case])["hidden_size"] >= 768
    slow = is_base and case not in FAST_AT_BASE_SIZE and "HF_AST_GOLDEN_CASES" not in os.environ
    return pytest.param(case, marks=pytest.mark.slow if slow else ())


@pytest.mark.parametrize("case", map(parameter, INDEX))
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
