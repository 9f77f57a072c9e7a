from __future__ import annotations

import pytest
from damage import IN_THE_SUITE


@pytest.fixture
def inputs(request: pytest.FixtureRequest) -> int:
    """How many damaged files each reader gets: `pytest tests/fuzz --fuzz 1000000` for a night."""
    wanted: int | None = request.config.getoption("--fuzz")
    return wanted or IN_THE_SUITE
