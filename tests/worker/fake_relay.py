"""The real relay, with quicker reminders: `python -m tests.worker.fake_relay`."""

import signal
import threading

from worker.app import database, log_to_stderr, settings
from worker.relay import Relay

if __name__ == "__main__":
    log_to_stderr()
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    Relay(database(), settings, remind_after_s=1.5).run(stop)
