"""What a job publishes, as manifests. Pure; called by ``job.publish``."""
