"""Which recordings are held out: whole groups where there are groups, else a share of every class."""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

TRAIN, VALIDATION, TEST = "train", "validation", "test"
# Split -> names that are in use for it
SPLITS = {
    TRAIN: ("train", "training"),
    VALIDATION: ("validation", "valid", "val", "dev"),
    TEST: ("test", "testing", "eval", "evaluation"),
}
# A name, the numbers of the classes, and the group of a recording
Item = tuple[str, tuple[int, ...], str | None]


def split_name(name: str, location: str) -> str:
    """Return the split that a name stands for, such as "train", "dev-clean" or "train.clean.100".

    Raises:
        ValueError: It stands for none.
    """
    first_word = re.split(r"[\W_]", name.strip().lower())[0]
    for split, names in SPLITS.items():
        if first_word in names:
            return split
    known = ", ".join(alias for names in SPLITS.values() for alias in names)
    raise ValueError(f"source={location!r} has the split {name!r}, which is none of: {known}.")


def held_out(items: Sequence[Item], fraction: float, seed: int) -> set[str]:
    """Choose recordings for validation.

    With groups, whole groups are chosen, so that about the same share of every class is held out. Otherwise the share
    is taken from every class, where a recording of several classes counts for the rarest one: at least one of two or
    more recordings, never the only one.

    Args:
        items: Recordings; if one has a group, all have one.
        fraction: Share to hold out, in [0, 1).
        seed: Seed of the choice, which does not depend on the order of the recordings.

    Returns:
        Names of the recordings that are held out.

    Raises:
        ValueError: All recordings are in one group.
    """
    items = sorted(items)
    if fraction == 0 or not items:
        return set()
    frequency = Counter(label for _, labels, _ in items for label in labels)
    strata = [min(labels, key=lambda label: (frequency[label], label), default=-1) for _, labels, _ in items]
    if items[0][2] is not None:
        return _by_groups(items, strata, fraction, seed)
    members = defaultdict(list)
    for (name, _, _), stratum in zip(items, strata, strict=True):
        members[stratum].append(name)
    rng = np.random.default_rng(seed)
    chosen: set[str] = set()
    for _, names in sorted(members.items()):
        num_chosen = min(len(names) - 1, max(1, round(fraction * len(names))))
        chosen.update(names[i] for i in rng.permutation(len(names))[:num_chosen])
    return chosen


def _by_groups(items: Sequence[Item], strata: Sequence[int], fraction: float, seed: int) -> set[str]:
    """Choose one of the parts that scikit-learn finds: the one that leaves the most classes in the rest."""
    from sklearn.model_selection import StratifiedGroupKFold

    groups = [group for _, _, group in items]
    num_parts = min(max(2, round(1 / fraction)), len(set(groups)))
    if num_parts < 2:
        raise ValueError(
            f"All recordings are in the group {groups[0]!r}, so none can be held out for validation; give the splits "
            "in a column, name another column of groups, or hold out nothing with validation_fraction=0 (--validation "
            "0)."
        )
    # Not every part can have a recording of a class that has only a few, and scikit-learn would warn of it
    sizes = Counter(strata)
    (largest, _), *_ = sizes.most_common(1)
    classes = [stratum if sizes[stratum] >= num_parts else largest for stratum in strata]
    parts = StratifiedGroupKFold(num_parts, shuffle=True, random_state=seed).split(items, classes, groups)
    candidates = [set(part.tolist()) for _, part in parts]

    def num_left(part: set[int]) -> int:
        return len({label for i, (_, labels, _) in enumerate(items) if i not in part for label in labels})

    return {items[i][0] for i in max(candidates, key=num_left)}
