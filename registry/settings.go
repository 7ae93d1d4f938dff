package registry

import (
	"net/http"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/registry/ledger"
)

// getConfig answers GET /config and GET /config/{subject}.
func (r *Registry) getConfig(q *request) (reply, error) {
	config, err := r.configOf(q.subject(), q.flag("defaultToGlobal"))
	return reply{body: config}, err
}

// configOf returns the config of a subject, a context, or for "" of all.
func (r *Registry) configOf(subject string, inScope bool) (ledger.Config, error) {
	s := r.store.current()
	if inScope || subject == "" {
		return s.ConfigInScope(subject), nil
	}
	config, ok := s.Config(subject)
	if !ok {
		return config, ledger.ConfigNotFound.With(subject)
	}
	return config, nil
}

// putConfig answers PUT /config and PUT /config/{subject}.
func (r *Registry) putConfig(q *request) (reply, error) {
	update, err := r.configUpdate(q)
	if err != nil {
		return reply{}, err
	}
	w, err := r.setConfig(q.Context(), q.subject(), update)
	if err != nil {
		return reply{}, err
	}
	body := configUpdate{Compatibility: w.answer.CompatibilityLevel, Config: w.answer}
	body.CompatibilityLevel = ""
	return reply{body: body, revision: w.revision}, nil
}

// removeConfig answers DELETE /config and DELETE /config/{subject}.
func (r *Registry) removeConfig(q *request) (reply, error) {
	w, err := r.deleteConfig(q.Context(), q.subject())
	return reply{body: w.answer, revision: w.revision}, err
}

// getMode answers GET /mode and GET /mode/{subject}.
func (r *Registry) getMode(q *request) (reply, error) {
	mode, err := r.modeOf(q.subject(), q.flag("defaultToGlobal"))
	return reply{body: modeBody{mode}}, err
}

// modeOf returns the mode of a subject, a context, or for "" of all.
func (r *Registry) modeOf(subject string, inScope bool) (ledger.Mode, error) {
	s := r.store.current()
	inForce := s.ModeInScope(subject)
	if inScope || subject == "" || inForce == ledger.ReadOnlyOverride {
		return inForce, nil
	}
	mode, ok := s.Mode(subject)
	if !ok {
		return "", ledger.ModeNotFound.With(subject)
	}
	return mode, nil
}

// putMode answers PUT /mode and PUT /mode/{subject}.
func (r *Registry) putMode(q *request) (reply, error) {
	body, err := r.readBody(q)
	if err != nil {
		return reply{}, err
	}
	var mode string
	if err := scanObject(body, map[string]field{"mode": textField(&mode)}); err != nil {
		return reply{}, err
	}
	w, err := r.setMode(q.Context(), q.subject(), mode, q.flag("force"))
	return reply{body: modeBody{w.answer}, revision: w.revision}, err
}

// removeMode answers DELETE /mode and DELETE /mode/{subject}.
func (r *Registry) removeMode(q *request) (reply, error) {
	w, err := r.deleteMode(q.Context(), q.subject(), q.flag("recursive"))
	return reply{body: modeBody{w.answer}, revision: w.revision}, err
}

// listContexts answers GET /contexts.
func (r *Registry) listContexts(q *request) (reply, error) {
	prefix := q.query.Get("contextPrefix")
	var found []string
	for _, name := range r.store.current().Contexts() {
		if hasPrefix(name, prefix) {
			found = append(found, name)
		}
	}
	return paged(q, found)
}

// hasPrefix tells whether a context begins with a prefix, whose dot may be
// missing.
func hasPrefix(context, prefix string) bool {
	begins := func(p string) bool { return len(context) >= len(p) && context[:len(p)] == p }
	return begins(prefix) || begins("."+prefix)
}

// removeContext answers DELETE /contexts/{context}.
func (r *Registry) removeContext(q *request) (reply, error) {
	name, ok := ledger.ParseContext(q.params["context"])
	if !ok {
		return reply{}, ledger.NotFound.With()
	}
	w, err := r.deleteContext(q.Context(), name)
	return reply{status: http.StatusNoContent, revision: w.revision}, err
}

// clusterID is the answer to GET /v1/metadata/id.
type clusterID struct {
	ID    string `json:"id"`
	Scope struct {
		Path     []string          `json:"path"`
		Clusters map[string]string `json:"clusters"`
	} `json:"scope"`
}

// getClusterID answers GET /v1/metadata/id.
func (r *Registry) getClusterID(q *request) (reply, error) {
	cluster, err := r.clusters.GetCluster(q.Context(), &sluicev1.GetClusterRequest{})
	if err != nil {
		return reply{}, ledger.StoreFailed.With("Error while asking the broker: " +
			fault.From(err).Error())
	}
	var body clusterID
	body.Scope.Path = []string{}
	body.Scope.Clusters = map[string]string{
		"kafka-cluster":           cluster.GetCluster().GetClusterId(),
		"schema-registry-cluster": "schema-registry",
	}
	return reply{body: body}, nil
}

// getServerVersion answers GET /v1/metadata/version.
func (r *Registry) getServerVersion(*request) (reply, error) {
	return reply{body: struct {
		Version  string `json:"version"`
		CommitID string `json:"commitId"`
	}{r.config.Version, r.config.Commit}}, nil
}

// getDeployment answers GET /v1/metadata/deployment.
func (r *Registry) getDeployment(*request) (reply, error) {
	return reply{body: struct {
		Attributes []string `json:"attributes"`
	}{[]string{"deploymentScope:opensource"}}}, nil
}
