"""What each way of transfer is worth, against controls: `python -m benchmarks.transfer` (resumable; see `--help`).

`data` fetches the tasks, `cells` says what is run and in which order, `runs` runs one, `table` makes Markdown of all.
"""
