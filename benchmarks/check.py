"""CPU time of ``neuronxa check``, in multiples of counting the sentences' character 3-grams.

Usage: python benchmarks/check.py [languages] [lines]
"""

import random
import sys
import tempfile
import time
from pathlib import Path

from neuronxa_callback.corpus.check import check_path
from neuronxa_callback.corpus.surface import grams

CODES = (
    "eng deu fra spa ita por nld pol ces rus ukr tur vie ind swh ron hun fin swe dan ell bul hrv"
    " slk cat"
)
CYRILLIC, GREEK = ("rus", "ukr", "bul"), ("ell",)


def write(folder: Path, codes: list[str], lines: int) -> None:
    draw = random.Random(0)
    for code in codes:
        first, last = (
            ("а", "я") if code in CYRILLIC else ("α", "ω") if code in GREEK else ("a", "z")
        )
        letters = [chr(k) for k in range(ord(first), ord(last) + 1)]
        words = ["".join(draw.choices(letters, k=draw.randint(2, 9))) for _ in range(8000)]
        texts = [" ".join(draw.choices(words, k=draw.randint(12, 28))) for _ in range(lines)]
        (folder / f"{code}.txt").write_text("".join(f"{text.capitalize()}.\n" for text in texts))


def main(languages: int = 25, lines: int = 2000) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder, CODES.split()[:languages], lines)
        check_path(folder, n_pairs=30)  # imports and caches
        ratios = []
        for _ in range(3):
            start = time.process_time()
            for file in sorted(folder.iterdir()):
                for line in file.read_text().splitlines():
                    grams(line)
            counted = time.process_time()
            found = check_path(folder)
            ratios.append((time.process_time() - counted) / (counted - start))
        seconds = time.process_time() - counted
        print(
            f"{languages} files x {lines} lines: {len(found)} findings, {seconds:.1f} CPU seconds"
        )
        print(f"{sorted(ratios)[1]:.1f} times the counting of 3-grams (median of 3)")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
