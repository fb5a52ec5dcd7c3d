"""What tests of several folders may ask for."""

import signal

import pytest


@pytest.fixture
def interruptible():
    """SIGINT raises KeyboardInterrupt, also where a shell has started pytest in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
