"""The names that users import."""

import subprocess
import sys

import pytest

import neuronxa_callback


def test_the_names_of_the_package():
    from neuronxa_callback import (
        AlignmentReport,
        CorpusError,
        FingerprintError,
        JsonlSink,
        MemorySink,
        NeuronXACallback,
        NeuronXAError,
        ParallelCorpus,
        Probe,
        ProbeConfig,
        StopRule,
        TapError,
        read_reports,
    )

    names = {value.__name__ for value in locals().values()}
    assert names == set(neuronxa_callback.__all__)
    for error in (CorpusError, FingerprintError, TapError):
        assert issubclass(error, NeuronXAError)
    for value in (NeuronXACallback, Probe, ProbeConfig, ParallelCorpus, StopRule, AlignmentReport):
        assert value.__doc__
    for value in (JsonlSink, MemorySink, read_reports):
        assert value.__doc__


def test_the_names_of_the_history():
    from neuronxa_callback.history import Change, compare, read_reports

    assert read_reports is neuronxa_callback.read_reports
    assert all(value.__doc__ for value in (Change, compare))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError) as error:
        neuronxa_callback.Prob  # noqa: B018
    assert str(error.value) == "module 'neuronxa_callback' has no attribute 'Prob'"


def test_all_names_are_listed():
    assert set(neuronxa_callback.__all__) <= set(dir(neuronxa_callback))


def test_reading_the_version_loads_no_module():
    code = (
        "import sys, neuronxa_callback; neuronxa_callback.__version__;"
        " print([n for n in sys.modules if n.startswith('neuronxa_callback.')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['neuronxa_callback._version']"
