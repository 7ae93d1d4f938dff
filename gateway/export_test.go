package gateway

// Routes returns the method and pattern of every route.
func (g *Gateway) Routes() (routes [][2]string) {
	for _, r := range g.routes {
		routes = append(routes, [2]string{r.method, r.pattern})
	}
	return routes
}

// BodyBytes returns what is held of the bodies of requests in progress.
func (g *Gateway) BodyBytes() int64 { return g.bodyBytes.Load() }
