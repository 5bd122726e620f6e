"""How many examples a property is tried on: 200, always the same; or ``FRONTEND_EXAMPLES``, at random."""

import os

from hypothesis import HealthCheck, settings

_GIVEN = os.environ.get("FRONTEND_EXAMPLES")
many = settings(
    max_examples=int(_GIVEN or 200),
    deadline=None,
    derandomize=_GIVEN is None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
