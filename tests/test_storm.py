"""The storm of the campaign, small: `make chaos` runs it at full size."""

import pytest

from chaos.storm import storm


@pytest.mark.parametrize("seed", [101, 102])
async def test_in_a_storm_every_call_ends_in_time_and_is_told_the_truth(seed: int) -> None:
    tally = await storm(seed, calls=500, disconnects=5)
    assert tally.problems == []
    assert tally.verdict.ends["answered"] > 20
