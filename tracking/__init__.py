"""The only code that imports MLflow: runs, their epochs and lease, registered versions, and evaluations.

Every call names its run: the fluent active run belongs to a thread and would be lost between tasks.
"""
