"""Where a job's files go: one protocol, ``base.Output``, and one module for each kind of place. Called by ``job.execute``."""
