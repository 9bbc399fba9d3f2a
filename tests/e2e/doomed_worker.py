"""A real worker but for its child: `python -m tests.e2e.doomed_worker`."""

import sys

import worker.app
from worker.app import main

if __name__ == "__main__":
    worker.app.CHILD = (sys.executable, "-m", "tests.e2e.doomed_child")
    worker.app.PROBE = (sys.executable, "-c", "")
    main()
