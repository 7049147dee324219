"""The command line: the program ``neuronxa`` and its commands.

Exit codes: 0: no problem. 1: problem found (a defect in a corpus, a significant drop, or sentences
in training data). 2: error, with one sentence on stderr.
"""

import logging
import sys


def main() -> None:
    """Run the command line; under ``python -X dev``, errors keep their traceback.

    Raises:
        SystemExit: Always, with the exit code.
    """
    from neuronxa_callback.cli.neuron_commands import app
    from neuronxa_callback.cli.options import SHOW_PLACE
    from neuronxa_callback.errors import NeuronXAError, reason
    from neuronxa_callback.show.terminal import (
        PlainFormatter,
        make_streams_printable,
        strip_controls,
    )

    make_streams_printable()
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(PlainFormatter())
    try:
        app()
    except Exception as error:
        if sys.flags.dev_mode:
            raise
        # Not uncaught: Python would exit with 1, which means that a problem was found.
        message = str(error)
        if isinstance(error, OSError) and error.filename is not None:
            message = f"cannot use {error.filename}: {reason(error)}"
        elif not isinstance(error, NeuronXAError):
            text = " ".join(message.split())
            message = f"unexpected {type(error).__name__}, please report it: {text}; {SHOW_PLACE}"
    print(f"neuronxa: {strip_controls(message)}", file=sys.stderr)
    sys.exit(2)
