"""The DCGAN library: data, networks, training, evaluation and reports; no orchestrator, no tracker, no network."""
