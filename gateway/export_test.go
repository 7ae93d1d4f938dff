package gateway

import "time"

// Routes returns the method and pattern of every route.
func (g *Gateway) Routes() (routes [][2]string) {
	for _, r := range g.routes {
		routes = append(routes, [2]string{r.method, r.pattern})
	}
	return routes
}

// BodyBytes returns what is held of the bodies of requests in progress.
func (g *Gateway) BodyBytes() int64 { return g.bodyBytes.Load() }

// Reading reports whether a call waits in a read of the instance of a path.
func (g *Gateway) Reading(path string) bool {
	g.consumers.mu.Lock()
	defer g.consumers.mu.Unlock()
	for key, i := range g.consumers.byKey {
		if path == "/consumers/"+key.group+"/instances/"+key.name {
			i.mu.Lock()
			defer i.mu.Unlock()
			return i.calls > 1 && len(i.reading) > 0
		}
	}
	return false
}

// Hubs returns how many readers of live streams there are.
func (g *Gateway) Hubs() int {
	g.hubs.mu.Lock()
	defer g.hubs.mu.Unlock()
	return len(g.hubs.all)
}

// Listeners returns how many streams follow them.
func (g *Gateway) Listeners() (count int) {
	g.hubs.mu.Lock()
	defer g.hubs.mu.Unlock()
	for _, h := range g.hubs.all {
		count += h.listeners
	}
	return count
}

// AnswerBytes returns what is held for answers.
func (g *Gateway) AnswerBytes() int64 {
	conn, _ := g.config.Conn.(*heldConn)
	return conn.answers.Held()
}

// HubBytes returns what they keep.
func (g *Gateway) HubBytes() int64 { return g.hubs.bytes.Load() }

// Streams returns how many live streams go on.
func (g *Gateway) Streams() int64 { return g.streamCount.Load() }

// RefreshPeers sets for how long is believed what the broker said of other gateways.
func (g *Gateway) RefreshPeers(after time.Duration) { g.peers.fresh = after }
