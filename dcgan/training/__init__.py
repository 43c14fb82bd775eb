"""Training: the step, the loop, the data that it reads, the devices that it uses, and its checkpoints."""
