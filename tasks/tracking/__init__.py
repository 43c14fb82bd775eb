"""The only code that imports MLflow: `store` opens it, `runs` records a training, `models` registers a generator.

Every call names its run: the fluent active run belongs to a thread and would be lost between tasks.
"""
