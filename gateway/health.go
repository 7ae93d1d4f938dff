package gateway

import (
	"errors"
	"net/http"

	"github.com/sluicelog/sluice/internal/fault"
)

// addHealth adds the checks of a process supervisor and the metrics.
func (g *Gateway) addHealth() {
	g.add(route{
		method: http.MethodGet, pattern: "/livez",
		handle: func(w *response, r *http.Request, _ params) {
			g.write(w, r, http.StatusOK, []byte(`{"status":"alive"}`))
		},
	})
	g.add(route{
		method: http.MethodGet, pattern: "/readyz",
		handle: func(w *response, r *http.Request, _ params) {
			if err := g.ready(); err != nil {
				g.fail(w, r, err)
				return
			}
			g.write(w, r, http.StatusOK, []byte(`{"status":"ready"}`))
		},
	})
	if g.config.Metrics != nil {
		g.add(route{
			method: http.MethodGet, pattern: "/metrics",
			handle: func(w *response, r *http.Request, _ params) {
				w.plain = true // the handler compresses itself
				g.config.Metrics.ServeHTTP(w, r)
			},
		})
	}
}

// ready returns why the node cannot serve, or nil.
func (g *Gateway) ready() error {
	if g.stopped.Load() {
		return errStopping
	}
	if g.config.Ready == nil {
		return nil
	}
	err := g.config.Ready()
	if err == nil || errors.Is(err, fault.BrokerNotAvailable) {
		return err
	}
	return fault.BrokerNotAvailable.Because("%s", err)
}
