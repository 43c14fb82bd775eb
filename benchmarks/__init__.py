"""The programs behind every number in the documents; each writes JSON under benchmarks/results/ and its tables."""
