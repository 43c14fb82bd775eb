"""What Prefect runs: thin tasks over the library, and its two adapters to the world, `settings` and `tracking`."""
