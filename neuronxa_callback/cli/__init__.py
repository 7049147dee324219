"""The door from the shell: ``neuronxa score | sweep | compare | page | check | taps | languages``.

Exit codes: 0 all is well; 1 something was found that was asked about (defects, a significant drop,
sentences in training data); 2 it could not be done, in one sentence on stderr.
"""

import sys


def main() -> None:
    """Runs the command line; under ``python -X dev`` what nobody foresaw is shown with its trace.

    Raises:
        SystemExit: Always, with the exit code.
    """
    from neuronxa_callback.cli.commands import app
    from neuronxa_callback.errors import NeuronXAError

    try:
        app()
    except NeuronXAError as error:
        words = str(error)
    except Exception as error:
        if sys.flags.dev_mode:
            raise
        # Never 1, which says that something was found.
        words = f"{type(error).__name__}: {' '.join(str(error).split())}"
    print(f"neuronxa: {words}", file=sys.stderr)
    sys.exit(2)
