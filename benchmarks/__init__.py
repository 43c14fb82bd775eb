"""The programs behind every figure in the README; each prints a table and writes JSON under benchmarks/results/."""
