"""The courier: fetches a tenant's sources and publishes its outputs, with the tenant's own credentials. Runs no template code."""
