"""Fixtures for all tests."""

from commands import command, here  # noqa: F401
from tiny_models import data, models  # noqa: F401
from tiny_recognisers import recognisers  # noqa: F401
