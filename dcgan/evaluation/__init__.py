"""Measures how good a generator is and decides whether it may replace the champion.

Images are evaluated through the features and probabilities of classifiers with fixed weights. Only `classifiers`,
`baselines`, `examine` and `make_classifiers` import TensorFlow; metrics, reports, memorization and the gate do not.
"""
