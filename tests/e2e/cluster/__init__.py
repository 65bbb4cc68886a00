"""A real Kubernetes for tests and for trying things out, without Docker: built from Go modules, run from Debian packages.

Two ways to run it: ``controlplane`` (etcd + kube-apiserver + kube-controller-manager, several at once, for API-level tests)
and the full one-node cluster behind ``python -m e2e.cluster`` with kubelet, containerd, DNS and NetworkPolicies. Nothing of
the product imports this package.
"""
