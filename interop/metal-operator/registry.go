// The registry of metal-operator, as its manager runs it, alone: a judge of what our probe sends. It is put into a copy of metal-operator's own source, since
// Go lets nobody else import it.
package main

import (
	"os"

	"github.com/go-logr/logr"
	"github.com/ironcore-dev/metal-operator/internal/registry"
	ctrl "sigs.k8s.io/controller-runtime"
)

func main() {
	// Registrations ask no API server; only boot states would.
	server := registry.NewServer(logr.Discard(), os.Args[1], nil)
	if err := server.Start(ctrl.SetupSignalHandler()); err != nil {
		println(err.Error())
		os.Exit(1)
	}
}
