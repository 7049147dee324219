"""The door from the shell: ``neuronxa score | sweep | compare | page | check | taps | languages``.

Exit codes: 0 all is well; 1 something was found that was asked about (defects, a significant drop,
sentences in training data); 2 it could not be done, in one sentence on stderr.
"""

import sys


def main() -> None:
    """Runs the command line."""
    from neuronxa_callback.cli.commands import app
    from neuronxa_callback.errors import NeuronXAError

    try:
        app()
    except NeuronXAError as error:
        print(f"neuronxa: {error}", file=sys.stderr)
        sys.exit(2)
