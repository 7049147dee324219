"""``python -m neuronxa_callback``: the command line, also for ``torchrun -m``."""

from neuronxa_callback.cli import main

if __name__ == "__main__":
    main()
