"""Configuration of every program of the node: pure functions from settings to files and command lines.

The order of ``programs`` is the start order. Facts that cost time to find are commented where they apply.
"""

import json
from pathlib import Path
from typing import Any, Final

from e2e.cluster import audit
from e2e.cluster.pki import Authority, write_kubeconfig, write_signing_pair
from e2e.cluster.settings import API_PORT, CONTAINERD_SOCKET, NODE_NAME, Settings

PAUSE_IMAGE: Final = "unjucks.local/pause:1"
MAX_PODS: Final = 400
ETCD: Final = "http://127.0.0.1:2379"
# Debian's place first, then the upstream one.
CNI_PLUGIN_FOLDERS: Final = ("/usr/lib/cni", "/opt/cni/bin")


def containerd_config(state: Path, snapshotter: str) -> str:
    """containerd's configuration; version 2 is understood by containerd 1.6 to 2."""
    plugins = next((p for p in CNI_PLUGIN_FOLDERS if (Path(p) / "bridge").exists()), CNI_PLUGIN_FOLDERS[0])
    # restrict_oom_score_adj: without CAP_SYS_RESOURCE runc fails with "can't get final child's PID from pipe: EOF".
    return f"""version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
[grpc]
  address = "{CONTAINERD_SOCKET}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "{snapshotter}"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{plugins}"
    conf_dir = "{state / "cni"}"
"""


def cni_config(settings: Settings) -> dict[str, Any]:
    """A bridge for the pods of the one node."""
    return {
        "cniVersion": "0.4.0",
        "name": "unjucks",
        "plugins": [
            {
                "type": "bridge",
                "bridge": "cni0",
                "isGateway": True,
                "ipMasq": True,
                "hairpinMode": True,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{"subnet": str(settings.pods)}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ],
    }


def kubelet_config(settings: Settings, pki: Path) -> dict[str, Any]:
    """The kubelet's configuration."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(pki / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(pki / "kubelet-server.crt"),
        "tlsPrivateKeyFile": str(pki / "kubelet-server.key"),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{settings.cgroup}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "clusterDNS": [settings.dns_service],
        "clusterDomain": "cluster.local",
        "resolvConf": str(settings.state / "resolv.conf"),
        "evictionHard": {"memory.available": "50Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        # Images come from archives, not from a registry: one that is collected could not be fetched again.
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "maxPods": MAX_PODS,
        "serializeImagePulls": False,
        "registryPullQPS": 0,
        "eventRecordQPS": 0,
        "kubeAPIQPS": 100,
        "kubeAPIBurst": 200,
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",
        "shutdownGracePeriod": "0s",
    }


def write_files(settings: Settings, authority: Authority, snapshotter: str) -> None:
    """Certificates, kubeconfigs and configuration files of all programs."""
    state, pki = settings.state, authority.folder
    local = f"https://127.0.0.1:{API_PORT}"
    names = [
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
    ]
    authority.issue(
        "apiserver",
        "kube-apiserver",
        sans=["127.0.0.1", settings.kubernetes_service, settings.node_address, *names],
    )
    # Group system:masters: the apiserver reads logs and runs exec on the kubelet as this client.
    authority.issue("kubelet-client", "kube-apiserver-kubelet-client", ["system:masters"])
    authority.issue("kubelet-server", f"system:node:{NODE_NAME}", ["system:nodes"], [NODE_NAME, settings.node_address])
    users = {
        "kubelet": (f"system:node:{NODE_NAME}", ["system:nodes"]),
        "kube-controller-manager": ("system:kube-controller-manager", []),
        "kube-scheduler": ("system:kube-scheduler", []),
        "kube-proxy": ("system:kube-proxy", []),
        "netpol": ("unjucks:netpol", ["system:masters"]),
    }
    for name, (user, groups) in users.items():
        pair = authority.issue(name, user, groups)
        write_kubeconfig(state / f"{name}.kubeconfig", local, authority.certificate_file, pair)
    admin = authority.issue("admin", "test-admin", ["system:masters"])
    write_kubeconfig(
        state / "kubeconfig", settings.server, authority.certificate_file, admin, name=f"unjucks-{settings.name}"
    )
    write_signing_pair(pki / "sa.key", pki / "sa.pub")
    (state / "audit-policy.json").write_text(json.dumps(audit.policy("Metadata")))
    (state / "containerd.toml").write_text(containerd_config(state, snapshotter))
    (state / "cni").mkdir(exist_ok=True)
    (state / "cni/10-unjucks.conflist").write_text(json.dumps(cni_config(settings)))
    (state / "kubelet.json").write_text(json.dumps(kubelet_config(settings, pki)))
    (state / "resolv.conf").write_text(f"nameserver {settings.dns_service}\n")


def programs(settings: Settings, folder: Path) -> list[dict[str, Any]]:
    """The node's programs in start order, for ``nodeinit``; ``folder`` holds the built components."""
    state = settings.state
    pki = state / "pki"
    admin = {"ca": str(pki / "ca.crt"), "certificate": str(pki / "admin.crt"), "key": str(pki / "admin.key")}
    return [
        {
            "name": "containerd",
            "command": ["containerd", "--config", str(state / "containerd.toml")],
            "ready": {"socket": CONTAINERD_SOCKET},
        },
        {
            "name": "etcd",
            "command": [
                str(folder / "etcd"),
                "--data-dir=/var/lib/etcd",
                f"--listen-client-urls={ETCD}",
                f"--advertise-client-urls={ETCD}",
                "--listen-peer-urls=http://127.0.0.1:2380",
                "--unsafe-no-fsync",  # the data need not survive a power cut
                "--log-level=warn",
            ],
            "ready": {"url": f"{ETCD}/health"},
        },
        {
            "name": "kube-apiserver",
            "command": [str(folder / "kube-apiserver"), *_apiserver_flags(settings, pki)],
            "ready": {"url": f"https://127.0.0.1:{API_PORT}/readyz", **admin},
        },
        {"name": "kube-controller-manager", "command": _controller_manager(settings, folder, pki)},
        {
            "name": "kube-scheduler",
            "command": [
                str(folder / "kube-scheduler"),
                f"--kubeconfig={state / 'kube-scheduler.kubeconfig'}",
                f"--authentication-kubeconfig={state / 'kube-scheduler.kubeconfig'}",
                f"--authorization-kubeconfig={state / 'kube-scheduler.kubeconfig'}",
                "--leader-elect=false",
                "--secure-port=0",
                "--kube-api-qps=200",
                "--kube-api-burst=400",
            ],
        },
        {
            "name": "kubelet",
            "command": [
                str(folder / "kubelet"),
                f"--config={state / 'kubelet.json'}",
                f"--kubeconfig={state / 'kubelet.kubeconfig'}",
                "--root-dir=/var/lib/kubelet",
                f"--hostname-override={NODE_NAME}",
                f"--node-ip={settings.node_address}",
            ],
        },
        {
            "name": "kube-proxy",
            "command": [
                str(folder / "kube-proxy"),
                f"--kubeconfig={state / 'kube-proxy.kubeconfig'}",
                f"--hostname-override={NODE_NAME}",
                "--proxy-mode=iptables",
                f"--cluster-cidr={settings.pods}",
                # 0: leave the machine's connection tracking settings alone.
                "--conntrack-max-per-core=0",
                "--conntrack-tcp-timeout-established=0",
                "--conntrack-tcp-timeout-close-wait=0",
                "--metrics-bind-address=127.0.0.1:10249",
            ],
        },
        {
            "name": "netpol",
            "command": [str(folder / "netpol")],
            "environment": {
                "KUBECONFIG": str(state / "netpol.kubeconfig"),
                "NODE_NAME": NODE_NAME,
                "SERVICE_CIDR": str(settings.services),
            },
        },
    ]


def _apiserver_flags(settings: Settings, pki: Path) -> list[str]:
    state = settings.state
    return [
        f"--etcd-servers={ETCD}",
        f"--secure-port={API_PORT}",
        f"--advertise-address={settings.node_address}",
        f"--tls-cert-file={pki / 'apiserver.crt'}",
        f"--tls-private-key-file={pki / 'apiserver.key'}",
        f"--client-ca-file={pki / 'ca.crt'}",
        f"--kubelet-client-certificate={pki / 'kubelet-client.crt'}",
        f"--kubelet-client-key={pki / 'kubelet-client.key'}",
        f"--kubelet-certificate-authority={pki / 'ca.crt'}",
        "--kubelet-preferred-address-types=InternalIP",  # the node's name need not resolve anywhere
        f"--service-account-key-file={pki / 'sa.pub'}",
        f"--service-account-signing-key-file={pki / 'sa.key'}",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-cluster-ip-range={settings.services}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        "--profiling=false",
        f"--audit-policy-file={state / 'audit-policy.json'}",
        f"--audit-log-path={state / 'audit.jsonl'}",
        "--audit-log-mode=blocking",
        "--audit-log-maxsize=500",
        "--audit-log-maxbackup=1",
    ]


def _controller_manager(settings: Settings, folder: Path, pki: Path) -> list[str]:
    kubeconfig = settings.state / "kube-controller-manager.kubeconfig"
    return [
        str(folder / "kube-controller-manager"),
        f"--kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        "--leader-elect=false",
        "--secure-port=0",
        "--use-service-account-credentials",
        "--allocate-node-cidrs",
        f"--cluster-cidr={settings.pods}",
        f"--node-cidr-mask-size={settings.pods.prefixlen}",
        f"--service-cluster-ip-range={settings.services}",
        f"--root-ca-file={pki / 'ca.crt'}",
        f"--service-account-private-key-file={pki / 'sa.key'}",
        f"--cluster-signing-cert-file={pki / 'ca.crt'}",
        f"--cluster-signing-key-file={pki / 'ca.key'}",
        "--flex-volume-plugin-dir=/var/lib/kubelet/volume-plugins",
        "--kube-api-qps=200",
        "--kube-api-burst=400",
    ]
