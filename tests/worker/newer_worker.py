"""As `fake_worker`, of a version to come, whose specifications may hold fields that this one does not know."""

import sys
from pathlib import Path

import worker.app
from core.spec.job import JobSpec
from worker.app import main

if __name__ == "__main__":
    worker.app.CHILD = (sys.executable, str(Path(__file__).with_name("fake_child.py")))
    worker.app.PROBE = (sys.executable, "-c", "")
    JobSpec.model_config["extra"] = "ignore"
    JobSpec.model_rebuild(force=True)
    main()
