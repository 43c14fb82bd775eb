"""What Prefect runs: one thin task per module, over the library and the tracking, and what the tasks share."""
