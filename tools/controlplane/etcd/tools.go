//go:build tools

// Package tools pins the etcd server that Corten builds for its demo, tests and benchmarks.
package tools

import _ "go.etcd.io/etcd/server/v3"
