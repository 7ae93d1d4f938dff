package registry

// pages returns the routes of the documentation.
func (r *Registry) pages() ([]route, error) { return nil, nil }
