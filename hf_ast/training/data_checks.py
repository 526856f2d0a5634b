"""What about labelled recordings makes training or its measurement uncertain, said before it begins."""

from collections.abc import Iterator

from hf_ast.data.labelled import LabelledData
from hf_ast.data.splitting import TEST, TRAIN, VALIDATION

# Below this number of training recordings, a class is named
FEW = 10
# Above this ratio of the largest to the smallest class, the classes are uneven
UNEVEN = 10.0


def remarks(data: LabelledData, *, needs_validation: bool = True) -> Iterator[str]:
    """Say what is wrong with the data, and what to do about it, in sentences."""
    counts = data.counts()
    of_train = {label: numbers.get(TRAIN, 0) for label, numbers in counts.items()}
    none = [label for label, number in of_train.items() if not number]
    few = [f"{label} ({number})" for label, number in of_train.items() if 0 < number < FEW]
    if none:
        yield f"No training recording of {_some(none)}, which cannot be learnt: add some, or leave the class out."
    if few:
        yield f"Fewer than {FEW} training recordings of {_some(few)}: add some, or join classes."
    if needs_validation:
        yield from _for_validation(data, counts)
    if data.of(TEST) and (without := [label for label, numbers in counts.items() if not numbers[TEST]]):
        yield f"No test recording of {_some(without)}: the result says nothing about them."
    largest, smallest = max(of_train.values()), min((n for n in of_train.values() if n), default=1)
    if largest > UNEVEN * smallest:
        yield (
            f"The largest class has {largest} training recordings, the smallest {smallest}: look at "
            "balanced_accuracy or mAP, as accuracy says little, and try --balanced."
        )
    copies = [name for name, reason in data.warned.items() if "it is in the split" in reason]
    if copies:
        yield (
            f"{len(copies)} recordings are the same as others in another split, such as {copies[0]}, which makes "
            "results look better than they are: remove them."
        )


def _for_validation(data: LabelledData, counts: dict[str, dict[str, int]]) -> Iterator[str]:
    without = [label for label, numbers in counts.items() if not numbers.get(VALIDATION)]
    if not data.of(VALIDATION):
        yield "No validation recordings: the last weights are kept, not the best ones; hold some out (--validation)."
    elif without:
        yield f"No validation recording of {_some(without)}: the best state is chosen without them."


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} others" if len(names) > 5 else "")
