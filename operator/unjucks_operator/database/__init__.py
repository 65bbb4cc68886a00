"""PostgreSQL, one of the operator's four outsides: tenants' identities, template trees, and the ledger of runs.

    identifiers, failures   checked names, and the driver's errors as the operator's
    pool                    connections, and transactions as a tenant or as the service
    bootstrap, migrate      the administrator's step, and the schema's versions
    tenants                 each tenant's role: ensure, retire, drop, sweep
    artifacts, ledger       trees by digest; runs, published exactly once

Nothing outside this package knows the driver or writes SQL. Row security, not this code, keeps tenants apart.
"""
