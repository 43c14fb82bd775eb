"""What is compared, each in a process of its own: this project's step, and the same training by others' means.

Each module runs as `python -m benchmarks.peers.NAME BATCH_SIZE` and talks as benchmarks/serving.py says.
"""
