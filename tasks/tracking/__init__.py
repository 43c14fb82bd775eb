"""The only code that imports MLflow.

`store` opens it, `runs` records a training, `models` registers a generator, `versions` finds versions and moves their
aliases, `generators` checks and loads them, `quality` records how good they are.

Every call names its run: the fluent active run belongs to a thread and would be lost between tasks.
"""
