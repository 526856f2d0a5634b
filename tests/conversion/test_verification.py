"""The result of a verification on its way to conversion.json and back."""

import dataclasses
import json
from typing import Any

import pytest

from hf_ast.conversion.verification import Verification, read_verification
from tests.support.converted import VERIFICATION

FAILED = dataclasses.replace(VERIFICATION, problems=("v.norm.bias differs",), forward=None)


@pytest.mark.parametrize("verification", [VERIFICATION, FAILED], ids=["passed", "failed"])
def test_json_and_back(verification: Verification) -> None:
    content = json.loads(json.dumps(verification.to_json()))
    assert content["passed"] == verification.passed == (verification is VERIFICATION)
    assert read_verification({"verification": content}) == verification


def test_before_the_first_verification_there_is_none() -> None:
    assert read_verification({"checkpoint": "ssast-tiny-patch-400"}) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"passed": False}, "passed=False, but 0 problems"),
        ({"problems": ["v.norm.bias differs"]}, "passed=True, but 1 problems"),
        ({"tensors": {"kept": 41, "lost": 1}}, "incomplete or damaged .TypeError: .*'lost'"),
        ({"forward": {"input": "noise"}}, "incomplete or damaged .TypeError: .*missing"),
        ({"versions": None}, "incomplete or damaged .TypeError"),
    ],
)
def test_content_that_contradicts_itself_or_is_damaged_is_an_error(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Verification.from_json(VERIFICATION.to_json() | changes)


def test_a_missing_field_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"incomplete or damaged \(KeyError: 'forward'\)"):
        Verification.from_json({"passed": True})
