"""The two networks and what trains them: losses, optimizers, dropout, the exponential moving average of the weights."""
