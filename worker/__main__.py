"""`python -m worker`: a worker with the settings of the environment."""

from worker.app import main

if __name__ == "__main__":
    main()
