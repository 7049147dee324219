"""Every configuration file is valid."""

from pathlib import Path

import pytest

from neuronxa_callback import ProbeConfig

PROBES = sorted((Path(__file__).parents[2] / "configs" / "probes").glob("*.toml"))


def test_there_are_probe_files():
    assert len(PROBES) >= 2


@pytest.mark.parametrize("path", PROBES, ids=lambda path: path.stem)
def test_a_probe_file_is_read(path):
    assert ProbeConfig.from_toml(path).n_pairs == 100
