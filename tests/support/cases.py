"""Generated cases: `hypothesis.given` whose number of examples comes from a profile, and which are counted.

`HYPOTHESIS_PROFILE=fuzz` runs 34 times as many of them, other ones every time; the default is always the same.
"""

import functools
import os
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings, strategies as st

# Without the explaining phase, which runs the failing example again and again
COMMON: dict[str, Any] = {
    "deadline": None,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    "phases": [Phase.explicit, Phase.generate, Phase.shrink],
    "database": None,
}
settings.register_profile("fast", max_examples=40, derandomize=True, **COMMON)
settings.register_profile("fuzz", max_examples=1350, print_blob=True, **COMMON)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))

# Test -> cases that ran in this process; those of the processes of pytest-xdist are added where they end
NUM_CASES: Counter[str] = Counter()
# What the package may raise; all of them say what is wrong, which `outcome` checks
ERRORS = (ValueError, TypeError, OSError)


def cases(weight: float, **strategies: st.SearchStrategy[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Run a test on generated arguments: `weight` times as many as the profile says, and count them."""

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(test)
        def counted(*args: Any, **kwargs: Any) -> None:
            NUM_CASES[test.__name__] += 1
            test(*args, **kwargs)

        num_examples = max(1, round(weight * settings().max_examples))
        return settings(max_examples=num_examples)(given(**strategies)(counted))

    return decorate


def outcome(call: Callable[[], Any], *names: str) -> Any:
    """The result of a call, or None after an error that is one of the package's and names one of the arguments."""
    try:
        return call()
    except ERRORS as error:
        message = str(error)
    assert any(name in message for name in names), f"{message!r} names none of {names}"
    assert len(message) < 2000, f"a message of {len(message)} characters"
    return None


class CaseCounts:
    """Plugin of pytest: how many generated cases ran, in all processes together."""

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        NUM_CASES.update(getattr(node, "workeroutput", {}).get("num_cases", {}))

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if hasattr(session.config, "workeroutput"):
            session.config.workeroutput["num_cases"] = dict(NUM_CASES)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if NUM_CASES:
            terminalreporter.write_line(f"{NUM_CASES.total():,} generated cases in {len(NUM_CASES)} tests")
            if terminalreporter.config.option.verbose > 0:
                for name, number in sorted(NUM_CASES.items()):
                    terminalreporter.write_line(f"{number:8,}  {name}")
