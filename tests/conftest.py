"""Fixtures for all tests."""

from tiny_models import command, data, models  # noqa: F401
