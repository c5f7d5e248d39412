//go:build tools

// Package tools pins the Kubernetes programs that Corten builds for its demo, tests and benchmarks.
package tools

import (
	_ "k8s.io/kubernetes/cmd/kube-apiserver"
	_ "k8s.io/kubernetes/cmd/kube-controller-manager"
	_ "k8s.io/kubernetes/cmd/kubectl"
)
