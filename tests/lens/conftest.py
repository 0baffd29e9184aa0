"""What tests of the lens share."""

import zlib

import numpy as np
import pytest

import regard


@pytest.fixture(scope="session")
def system(tiny):
    """A random encoder of two layers with four heads of width 8."""
    return regard.load(tiny)


@pytest.fixture(scope="session")
def decode():
    """A reader of the bytes that a page embeds: weights (rows, size), and what each row leaves out."""

    def decode(found: bytes, *, rows: int, kept: int, size: int):
        raw = zlib.decompress(found)
        tops, rest = np.frombuffer(raw, "<u2", 2 * rows).reshape(2, rows) / 65535
        shares = np.frombuffer(raw, np.uint8, rows * kept, 4 * rows).reshape(rows, kept)
        places = np.tile(np.arange(size), (rows, 1))
        if kept < size:
            low, high = np.frombuffer(raw, np.uint8, 2 * rows * kept, 4 * rows + rows * kept).reshape(2, rows, kept)
            places = (low.astype(int) + 256 * high.astype(int)).cumsum(1)
            assert len(raw) == 4 * rows + 3 * rows * kept
        out = np.zeros((rows, size))
        np.put_along_axis(out, places, tops[:, None] * shares / 255, 1)
        return out, rest

    return decode
