"""Arrays as bytes beside JSON, compressed and in base64, as ``data.js`` reads them.

Layout: the length of the JSON (4 bytes), the JSON (padded to 4 bytes), the arrays.
"""

import base64
import json
import struct
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

FINEST = 65534
"""Shares are packed in two bytes as whole numbers of 1 / ``FINEST``."""
UNKNOWN = FINEST + 1
"""The packed form of NaN."""


class Packer:
    """Collects arrays as bytes, one after another."""

    def __init__(self) -> None:
        self.parts: list[bytes | memoryview] = []
        self.size = 0

    def put(self, array: NDArray[Any]) -> dict[str, Any]:
        """Append an array.

        Returns:
            Its ``offset`` in bytes, ``type`` such as ``"f4"``, and ``shape``.
        """
        padding = bytes(-array.nbytes % 4)
        entry = {"offset": self.size, "type": array.dtype.str[1:], "shape": list(array.shape)}
        self.parts += [np.ascontiguousarray(array).data, padding]
        self.size += array.nbytes + len(padding)
        return entry

    def finish(self, plain: Mapping[str, Any]) -> str:
        """The JSON and all arrays, compressed, in base64."""
        text = json.dumps(plain, ensure_ascii=False, allow_nan=False, default=str).encode()
        text += b" " * (-len(text) % 4)
        packed = zlib.compressobj(9)
        parts = (struct.pack("<I", len(text)), text, *self.parts)
        whole = b"".join([*map(packed.compress, parts), packed.flush()])
        return base64.b64encode(whole).decode("ascii")


def packed_shares(shares: ArrayLike) -> NDArray[np.uint16]:
    """Shares in [0, 1] as two bytes each; NaN becomes ``UNKNOWN``.

    >>> packed_shares([0.0, 0.5, 1.0, float("nan")]).tolist()
    [0, 32767, 65534, 65535]
    """
    numbers = np.asarray(shares, dtype=float)
    known = np.round(np.nan_to_num(numbers) * FINEST)
    return np.where(np.isnan(numbers), UNKNOWN, known).astype("<u2")
