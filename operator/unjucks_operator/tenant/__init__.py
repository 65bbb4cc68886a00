"""Tenant: observe → plan (+ ``desired``) → apply → status."""
