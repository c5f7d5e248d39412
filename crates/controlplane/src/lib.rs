//! A real Kubernetes control plane on loopback, for demo, tests and benchmarks.
