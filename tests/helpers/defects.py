"""Marks of tests that say what ESPnet should do where this project steps around what it does."""

import importlib.metadata
from collections.abc import Callable

import pytest

RELEASE = int(importlib.metadata.version("espnet").split(".")[0])
GONE: dict[str, int] = {}  # place of a work-around -> the first release that does without


def defect(
    where: str, gone: int | None = None, since: int = 0, raises: tuple[type[Exception], ...] = ()
) -> Callable:
    """Return the mark of a test that fails with ESPnet, and fails the suite once it passes.

    Args:
        where: what steps around the defect, and may become simpler once the test passes.
        gone: the first release in which the test passes; older ones need the work-around.
        since: the first release with the defect.
        raises: how the test fails beside a failed comparison.
    """
    if gone:
        GONE[where] = gone
    return pytest.mark.xfail(
        since <= RELEASE and (gone is None or gone > RELEASE),
        reason=f"ESPnet {RELEASE}: {where} steps around it",
        strict=True,
        raises=(AssertionError, pytest.fail.Exception, *raises),
    )
