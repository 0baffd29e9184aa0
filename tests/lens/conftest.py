"""What tests of the lens share."""

import pytest

import regard


@pytest.fixture(scope="session")
def system(tiny):
    """A random encoder of two layers with four heads of width 8."""
    return regard.load(tiny)
