"""The operator process: watches the three kinds, plans, applies, and reports. See ``docs/architecture.md``."""
