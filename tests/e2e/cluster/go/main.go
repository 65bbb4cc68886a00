// One program that is every Kubernetes component of the test cluster, chosen by the name it is called under
// (symbolic links do that): etcd, kube-apiserver, kube-controller-manager, kube-scheduler, kubelet, kube-proxy, kubectl,
// coredns, netpol. One program, because the components share almost all of their code: it is linked and stored once.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	kubectlcli "k8s.io/kubectl/pkg/cmd"
	kubectlutil "k8s.io/kubectl/pkg/cmd/util"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

// fail reports an error the way the components do it and ends the program.
func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func main() {
	name := filepath.Base(os.Args[0])
	if os.Getenv("TESTCLUSTER_FOLLOW_STDIN") == "1" {
		followStdin()
	}
	var cmd *cobra.Command
	switch name {
	case "etcd":
		etcdmain.Main(os.Args)
		return
	case "coredns":
		runCoreDNS()
		return
	case "netpol":
		fail(runNetpol())
		return
	case "kubectl":
		// kubectl prints its own errors and knows its exit codes, so it does not go through cli.Run.
		cmd = kubectlcli.NewDefaultKubectlCommand()
		kubectlutil.CheckErr(cli.RunNoErrOutput(cmd))
		return
	case "kube-apiserver":
		cmd = apiserver.NewAPIServerCommand()
	case "kube-controller-manager":
		cmd = controllermanager.NewControllerManagerCommand()
	case "kube-scheduler":
		cmd = scheduler.NewSchedulerCommand()
	case "kube-proxy":
		cmd = proxy.NewProxyCommand()
	case "kubelet":
		// Not the context of a signal handler: the kubelet installs its own, and a second one panics.
		cmd = kubelet.NewKubeletCommand(context.Background())
	default:
		fmt.Fprintf(os.Stderr, "unknown component %q: call this program through a link named after a component\n", name)
		os.Exit(2)
	}
	os.Exit(cli.Run(cmd))
}
