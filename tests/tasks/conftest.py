"""What is drawn is the same each time, as in the tests of pruning."""

from tests.pruning.conftest import _one_thread, _same_draws  # noqa: F401
