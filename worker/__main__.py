"""`python -m worker`: a worker with the settings of the environment."""

from worker.app import app

if __name__ == "__main__":
    app.worker_main(["worker", "--without-gossip", "--without-mingle", "--without-heartbeat"])
