"""CPU time of ``neuronxa check``: of a corpus, and of a search of training files.

    python benchmarks/check.py [--languages 25] [--lines 2000] [--megabytes 100]

A corpus is compared with counting the sentences' character 3-grams. The search has its fastest of
three rounds, without a hit.
"""

import argparse
import json
import random
import tempfile
import time
from pathlib import Path

from neuronxa_callback import ParallelCorpus
from neuronxa_callback.corpus.check import check_path
from neuronxa_callback.corpus.contamination import contamination
from neuronxa_callback.corpus.surface import grams

CODES = (
    "eng deu fra spa ita por nld pol ces rus ukr tur vie ind swh ron hun fin swe dan ell bul hrv"
    " slk cat"
)
LINE = "Some other text of no interest, line after line. Ein anderer Text. 别的文字。"
TRAINING = {"txt": f"{LINE}\n", "jsonl": json.dumps({"text": LINE}, ensure_ascii=False) + "\n"}
ROUNDS = 3
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


def check(languages: int, lines: int) -> None:
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


def search(megabytes: int) -> None:
    corpus = ParallelCorpus.builtin()
    with tempfile.TemporaryDirectory() as name:
        for kind, line in TRAINING.items():
            data, seconds = line.encode(), []
            path = Path(name) / f"training.{kind}"
            path.write_bytes(data * (megabytes * 10**6 // len(data)))
            for _ in range(ROUNDS):
                start = time.process_time()
                assert contamination(corpus, [path]) == ()
                seconds.append(time.process_time() - start)
            print(f"{kind}: {path.stat().st_size / 1e6 / min(seconds):.0f} MB per CPU second")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("languages", 25), ("lines", 2000), ("megabytes", 100)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    check(options.languages, options.lines)
    search(options.megabytes)


if __name__ == "__main__":
    main()
