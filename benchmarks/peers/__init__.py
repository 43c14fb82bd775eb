"""The programs that are compared, each in a process of its own: this project's training step, and plain ports of it.

Each module runs as `python -m benchmarks.peers.NAME BATCH_SIZE` and answers as benchmarks/worker.py says.
"""
