"""The tiny model, as the tests of pruning have it."""

from tests.pruning.conftest import (  # noqa: F401
    _no_save_by_the_clock,
    _one_thread,
    _same_draws,
    _short,
    cost,
    fresh,
    network,
    tiny,
)
