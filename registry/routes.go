package registry

import (
	"net/http"
	"strings"

	"github.com/sluicelog/sluice/registry/ledger"
)

// routes returns the whole REST surface.
func (r *Registry) surface() []route {
	const get, post, put, del = http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete
	read := func(method, path string, handle func(*request) (reply, error)) route {
		return route{method: method, pattern: split(path), handle: handle, contexts: true}
	}
	write := func(method, path string, handle func(*request) (reply, error)) route {
		at := read(method, path, handle)
		at.writes = true
		return at
	}
	const version = "/subjects/{subject}/versions/{version}"
	return []route{
		{method: get, pattern: split("/"), handle: nothing, offline: true},
		{method: post, pattern: split("/"), handle: nothing, offline: true},
		read(get, "/schemas", r.listSchemas),
		{
			method: get, pattern: split("/schemas/types"), handle: r.listTypes, offline: true,
			contexts: true,
		},
		read(get, "/schemas/ids/{id}", r.getSchema),
		read(get, "/schemas/ids/{id}/schema", r.getSchemaText),
		read(get, "/schemas/ids/{id}/subjects", r.listUsers),
		read(get, "/schemas/ids/{id}/versions", r.listUses),
		read(get, "/schemas/guids/{guid}", r.getGUID),
		read(get, "/schemas/guids/{guid}/ids", r.listGUIDs),
		read(get, "/subjects", r.listSubjects),
		read(post, "/subjects/{subject}", r.lookUpSchema),
		write(del, "/subjects/{subject}", r.removeSubject),
		read(get, "/subjects/{subject}/metadata", r.getByMetadata),
		read(get, "/subjects/{subject}/versions", r.listVersions),
		write(post, "/subjects/{subject}/versions", r.registerSchema),
		read(get, version, r.getVersion),
		write(del, version, r.removeVersion),
		read(get, version+"/schema", r.getVersionText),
		read(get, version+"/referencedby", r.listReferrers),
		read(get, version+"/referencedBy", r.listReferrers),
		read(post, "/compatibility/subjects/{subject}/versions", r.checkHistory),
		read(post, "/compatibility/subjects/{subject}/versions/{version}", r.checkVersion),
		read(get, "/config", r.getConfig),
		write(put, "/config", r.putConfig),
		write(del, "/config", r.removeConfig),
		read(get, "/config/{subject}", r.getConfig),
		write(put, "/config/{subject}", r.putConfig),
		write(del, "/config/{subject}", r.removeConfig),
		read(get, "/mode", r.getMode),
		write(put, "/mode", r.putMode),
		write(del, "/mode", r.removeMode),
		read(get, "/mode/{subject}", r.getMode),
		write(put, "/mode/{subject}", r.putMode),
		write(del, "/mode/{subject}", r.removeMode),
		read(get, "/contexts", r.listContexts),
		{
			method: del, pattern: split("/contexts/{context}"), handle: r.removeContext,
			writes: true,
		},
		{method: get, pattern: split("/v1/metadata/id"), handle: r.getClusterID, offline: true},
		{
			method: get, pattern: split("/v1/metadata/version"), handle: r.getServerVersion,
			offline: true,
		},
		{
			method: get, pattern: split("/v1/metadata/deployment"), handle: r.getDeployment,
			offline: true,
		},
		{method: get, pattern: split("/livez"), handle: r.live, plain: true, offline: true},
		{method: get, pattern: split("/readyz"), handle: r.readyz, plain: true, offline: true},
	}
}

func (r *Registry) addRoutes() error {
	r.routes = map[string][]*route{}
	pages, err := r.pages()
	if err != nil {
		return err
	}
	for _, at := range append(r.surface(), pages...) {
		r.routes[at.pattern[0]] = append(r.routes[at.pattern[0]], &at)
	}
	return nil
}

func split(path string) []string { return strings.Split(strings.TrimPrefix(path, "/"), "/") }

// nothing answers GET / and POST /.
func nothing(*request) (reply, error) { return reply{body: struct{}{}}, nil }

// live answers GET /livez.
func (r *Registry) live(q *request) (reply, error) {
	q.header.Set("Content-Type", "application/json")
	return reply{body: text(`{"status":"alive"}`)}, nil
}

// readyz answers GET /readyz.
func (r *Registry) readyz(q *request) (reply, error) {
	q.header.Set("Content-Type", "application/json")
	err := r.Ready()
	if r.stopping.Load() {
		err = ledger.StoreFailed.With("the registry is stopping")
	}
	if err != nil {
		reason := errorBody{http.StatusServiceUnavailable, "Not ready: " + err.Error()}
		//nolint:nilerr // the reason is the answer
		return reply{status: http.StatusServiceUnavailable, body: reason}, nil
	}
	return reply{body: text(`{"status":"ready"}`)}, nil
}
