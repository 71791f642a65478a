//go:build tools

// Package tools names the programs of a Kubernetes control plane that the tests run against; scripts/kubernetes builds
// them. The staging modules are replaced by their published versions, because k8s.io/kubernetes requires them as v0.0.0.
package tools

import (
	_ "go.etcd.io/etcd/server/v3"
	_ "k8s.io/kubernetes/cmd/kube-apiserver"
	_ "k8s.io/kubernetes/cmd/kube-controller-manager"
)
