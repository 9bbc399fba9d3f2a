"""The machine: devices, processes, memory, files."""
