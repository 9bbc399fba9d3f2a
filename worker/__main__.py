"""`python -m worker`: a worker with the settings of the environment."""

import sys
from importlib.util import find_spec

from worker.app import main

if __name__ == "__main__":
    if find_spec("torch") is None:  # looked for and not loaded: only what is started aside may
        sys.exit("the jobs of a worker need torch: in the checkout, pip install -e '.[worker]'")
    main()
