package gateway

// Routes returns the method and pattern of every route.
func (g *Gateway) Routes() (routes [][2]string) {
	for _, r := range g.routes {
		routes = append(routes, [2]string{r.method, r.pattern})
	}
	return routes
}
