"""MNIST-format data: IDX files in, normalised Parquet out, and back into memory."""
