"""Registers the shared fixtures of ``tests/support`` for every test."""

pytest_plugins = ["support.controlplane", "support.postgres"]
