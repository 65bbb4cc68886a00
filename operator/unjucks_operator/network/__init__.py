"""The cluster's network as the operator knows it: which addresses are the cluster's own, and whether policies are enforced.

    ranges.py        pure: address ranges, and what has to be cut out of a tenant's destination
    discovery.py     asks the API server which ranges the cluster uses
    enforcement.py   pure: what a probe's result means
    probe_pods.py    pure: the two pods of a probe and their policies
    probe.py         runs probes, keeps the last result, wakes the tenants when it changes

Nothing here writes into a tenant's namespace; that is ``tenant``'s. Assembled by ``app``.
"""
