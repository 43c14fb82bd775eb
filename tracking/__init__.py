"""The only code that imports MLflow and Optuna: runs, their epochs and lease, versions, evaluations, and sweeps.

Every call names its run: the fluent active run belongs to a thread and would be lost between tasks.
"""
