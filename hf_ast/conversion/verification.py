"""The result of a verification: typed in memory, JSON in conversion.json, and text for people."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self


@dataclass(frozen=True)
class TensorComparison:
    """How the tensors of a folder correspond to those of the official file.

    Args:
        kept: Number of the file's tensors that the folder holds bit for bit.
        derived: Tensors of the file from which others were computed, and how.
        dropped: Tensors of the file that were left out on purpose, and why.
        new: Our tensors that the file does not hold; they are zeros.
    """

    kept: int = 0
    derived: Mapping[str, str] = field(default_factory=dict)
    dropped: Mapping[str, str] = field(default_factory=dict)
    new: tuple[str, ...] = ()


@dataclass(frozen=True)
class ForwardComparison:
    """How the outputs of a folder's model differ from those of other implementations, for one fixed clip.

    Args:
        input: What the clip is.
        output: Names of the compared outputs, separated by commas.
        shape: Shape of the first of them.
        sample: Its first values.
        scale: Largest absolute value of the compared outputs.
        reference_difference: Largest absolute difference from the independent implementation in `reference`.
        native_difference: Likewise from transformers' own AST; None where transformers has no such model.
    """

    input: str
    output: str
    shape: tuple[int, ...]
    sample: tuple[float, ...]
    scale: float
    reference_difference: float
    native_difference: float | None = None


@dataclass(frozen=True)
class Verification:
    """The result of `verify_folder`.

    Args:
        problems: What is wrong, one sentence each; none if the folder passed.
        tensors: The comparison of the tensors.
        forward: The comparison of a forward pass; None if settings or tensors are wrong already.
        versions: Versions of the packages that did it.
        unproved: Settings that no tensor tells and that were assumed; see `assumptions.find_assumptions`.
    """

    problems: tuple[str, ...]
    tensors: TensorComparison
    forward: ForwardComparison | None
    versions: Mapping[str, str]
    unproved: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether there is no problem."""
        return not self.problems

    def to_json(self) -> dict[str, Any]:
        """Return the content for conversion.json, with `passed` for other readers."""
        return {"passed": self.passed, **json.loads(json.dumps(dataclasses.asdict(self)))}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Invert `to_json`.

        Raises:
            ValueError: The content is not a verification, or contradicts itself.
        """
        try:
            forward = content["forward"]
            verification = cls(
                problems=tuple(content["problems"]),
                tensors=TensorComparison(**_with_tuples(content["tensors"], "new")),
                forward=None if forward is None else ForwardComparison(**_with_tuples(forward, "shape", "sample")),
                versions=dict(content["versions"]),
                unproved=tuple(content.get("unproved", ())),  # conversions before 0.3 do not have it
            )
            passed = content["passed"]
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"verification is incomplete or damaged ({type(error).__name__}: {error}).") from error
        if passed is not verification.passed:
            raise ValueError(f"verification has passed={passed}, but {len(verification.problems)} problems.")
        return verification


def read_verification(provenance: Mapping[str, Any]) -> Verification | None:
    """Return the verification in the content of a conversion.json, or None if there is none yet.

    Raises:
        ValueError: As in `Verification.from_json`.
    """
    content = provenance.get("verification")
    return None if content is None else Verification.from_json(content)


def format_verification(verification: Verification) -> str:
    """Describe a verification in several lines of text."""
    tensors, forward = verification.tensors, verification.forward
    lines = ["verified" if verification.passed else "NOT verified"]
    lines += [f"  problem: {problem}" for problem in verification.problems]
    lines.append(f"tensors: {tensors.kept} as in the file, bit for bit")
    for kind, reasons in (("derived", tensors.derived), ("dropped", tensors.dropped)):
        lines += [f"  {kind}: {name} ({reason})" for name, reason in reasons.items()]
    lines += [f"  not in the file: {name}" for name in tensors.new]
    if forward is not None:
        lines.append(f"forward pass: {forward.output} of shape {forward.shape}")
        lines.append(f"  input: {forward.input}")
        lines.append(f"  begins with: {', '.join(f'{value:.6g}' for value in forward.sample)}")
        lines.append(f"  largest difference from an independent implementation: {forward.reference_difference:.2g}")
        if forward.native_difference is not None:
            lines.append(f"  largest difference from transformers' own AST: {forward.native_difference:.2g}")
        lines.append(f"  largest value: {forward.scale:.3g}")
    if verification.unproved:
        lines.append(f"NOT proved, as no tensor tells it: {', '.join(verification.unproved)}")
    lines.append("with " + ", ".join(f"{name} {version}" for name, version in verification.versions.items()))
    return "\n".join(lines)


def _with_tuples(fields: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: tuple(value) if name in names else value for name, value in fields.items()}
