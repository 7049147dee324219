"""Saved models of a run: where they are, their steps, and whether they are complete."""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors import safe_open

from neuronxa_callback.cli.load_model import WEIGHTS, require_whole_weights
from neuronxa_callback.cli.loading.adapters import ADAPTER
from neuronxa_callback.errors import ConfigError, reason

LAST_NUMBER = re.compile(r"(\d+)\D*$")
STEP_FOLDER = re.compile(r"(?:checkpoint|ckpt|(?:global[-_]?)?steps?|iter(?:ation)?)[-_]?(\d+)")
"""Names of the folders that trainers write: ``checkpoint-500``, ``step_500``, ``iter_0000500``."""
SHARD = re.compile(r"-\d+-of-\d+\.")


@dataclass(frozen=True)
class Checkpoint:
    """A saved model of one step."""

    step: int
    location: str
    """A folder, or a name on the hub."""
    revision: str | None = None

    @property
    def weights_id(self) -> str:
        """Identifies the weights: the revision, or a hash of names, sizes and times of files."""
        if self.revision is not None:
            return f"{self.location}@{self.revision}"
        stats = [(file.name, *_size_and_time(file)) for file in weight_files(Path(self.location))]
        return hashlib.sha256(repr(stats).encode()).hexdigest()[:16]


def find_checkpoints(run: str, revisions: Sequence[str] = ()) -> list[Checkpoint]:
    """The checkpoints of a run, in order of their steps.

    Args:
        run: A folder with folders such as ``checkpoint-500``, ``step_500`` or ``iter_500/hf``, or a
            name on the hub.
        revisions: Revisions on the hub; the last number in each is its step.

    Raises:
        ConfigError: If there are none, or if a step has two.
    """
    if revisions:
        by_step = {_step_of(revision): revision for revision in revisions}
        if len(by_step) < len(revisions):
            raise ConfigError(f"revisions must differ in their steps, got {', '.join(revisions)}")
        return [Checkpoint(step, run, by_step[step]) for step in sorted(by_step)]
    checkpoints = folders_of_steps(Path(run))
    if not checkpoints:
        problem = "holds none" if Path(run).is_dir() else "is not a folder"
        raise ConfigError(
            f"a run must be a folder that holds checkpoint-<step> folders, {run!r} {problem};"
            " for one model use `neuronxa score`, for the hub --revisions"
        )
    return checkpoints


def folders_of_steps(run: Path) -> list[Checkpoint]:
    """The folders of a run that are named after a step, in order; none if there is no such run.

    Raises:
        ConfigError: If two have the same step.
    """
    named = {path: STEP_FOLDER.fullmatch(path.name) for path in sorted(run.glob("*"))}
    steps = {path: int(match[1]) for path, match in named.items() if match and path.is_dir()}
    by_step: dict[int, Path] = {}
    for path, step in steps.items():
        if by_step.setdefault(step, path) != path:
            raise ConfigError(
                f"a run must have one checkpoint per step, step {step} has {by_step[step].name} and"
                f" {path.name} in {run}"
            )
    return [Checkpoint(step, str(_model_folder(by_step[step]))) for step in sorted(by_step)]


def _model_folder(folder: Path) -> Path:
    """The folder itself, or its only subfolder with a model, such as ``hf``."""
    if _holds_model(folder):
        return folder
    inner = [path for path in sorted(folder.glob("*")) if path.is_dir() and _holds_model(path)]
    return inner[0] if len(inner) == 1 else folder


def _holds_model(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("config.json", ADAPTER))


def weight_files(folder: Path) -> list[Path]:
    """The files of weights in a folder, in order of their names."""
    return sorted(file for pattern in WEIGHTS for file in folder.glob(pattern))


def signature(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """Names, sizes and times of all files of a checkpoint: it changes while one is written."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return tuple((str(file.relative_to(folder)), *_size_and_time(file)) for file in files)


def _size_and_time(file: Path) -> tuple[int, int]:
    """Zeros if the file was removed since it was listed."""
    try:
        stat = file.stat()
    except FileNotFoundError:
        return 0, 0
    return stat.st_size, stat.st_mtime_ns


def incomplete(folder: Path) -> str | None:
    """What a checkpoint lacks, in one sentence; None if its files are all there and whole.

    The index of sharded weights must exist and all files that it names; each safetensors file
    must be as long as its header says.
    """
    try:
        require_whole_weights(folder)
        if not _holds_model(folder):
            return f"{folder} must hold config.json or {ADAPTER}, it holds neither"
        weights = weight_files(folder)
        if not weights:
            return f"{folder} must hold a file of weights, it holds none"
        shards = [file for file in weights if SHARD.search(file.name)]
        if shards and not any(folder.glob("*.index.json")):
            return f"{folder} must hold the index of its {len(shards)} files of weights"
        json.loads(next(folder.glob("*config.json")).read_text(encoding="utf-8"))
        for file in weights:
            if file.suffix == ".safetensors":
                with safe_open(file, "pt"):
                    pass
    except ConfigError as error:
        return str(error)
    except Exception as error:
        # Any kind: safetensors raises errors of its own, and files may vanish.
        return f"{folder} cannot be read whole: {reason(error)}"
    return None


def _step_of(revision: str) -> int:
    number = LAST_NUMBER.search(revision)
    if number is None:
        raise ConfigError(f"a revision must end in its step, such as step1000, got {revision!r}")
    return int(number.group(1))
