"""Redis: one user for each tenant, on every server, that reaches the tenant's own keys and channels and nothing else.

    acl.py         what a user may do, and how that is compared with what a server says; pure
    addresses.py   the configured servers; pure
    server.py      one server: its connection, its errors, its commands
    users.py       the tenants' users on all servers: made, repaired, taken away, keys removed
    watch.py       looks at all servers again and again, and sends drifted tenants back to work

Users live in a server's memory only: one that restarts has none. So nothing here is done once and believed for ever.
Must not: know a password for longer than the call that makes it. Called by ``app`` and, for actions, by ``apply``.
"""
