"""The DCGAN library: data, networks, training and pictures, with no orchestrator, no tracker and no network."""
