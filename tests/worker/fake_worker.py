"""A real worker process but for its child: `python -m tests.worker.fake_worker`."""

import sys
from pathlib import Path

import worker.app
from worker.app import main

if __name__ == "__main__":
    worker.app.CHILD = (sys.executable, str(Path(__file__).with_name("fake_child.py")))
    worker.app.PROBE = (sys.executable, "-c", "")
    main()
