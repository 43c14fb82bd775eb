"""How good a generator is: two classifiers that look at its pictures, metrics of what they see, and a gate.

Metrics, reports and the gate need NumPy alone; only `classifiers`, `classifier_training`, `evaluator` and
`make_evaluator` import TensorFlow.
"""
