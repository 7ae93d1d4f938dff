package registry

import (
	"github.com/sluicelog/sluice/registry/ledger"
)

// listSubjects answers GET /subjects.
func (r *Registry) listSubjects(q *request) (reply, error) {
	return paged(q, r.store.current().Subjects(q.prefix(ledger.AllContexts), q.flag("deleted"),
		q.flag("deletedOnly")))
}

// lookUpSchema answers POST /subjects/{subject}.
func (r *Registry) lookUpSchema(q *request) (reply, error) {
	request, err := r.registration(q)
	if err != nil {
		return reply{}, err
	}
	answer, err := r.lookup(request, q.flag("deleted"))
	if err != nil {
		return reply{}, err
	}
	return r.version(q, answer)
}

// version answers with a version of a subject in the format that is asked for.
func (r *Registry) version(q *request, a ledger.Answer) (reply, error) {
	body := versionOf(a)
	if q.query.Get("format") == "resolved" {
		var err error
		body.Schema, err = r.store.current().Resolved(r.parser, a.Subject, a.Content)
		if err != nil {
			return reply{}, err
		}
	}
	if q.query.Get("referenceFormat") == "qualified" {
		body.References = ledger.Qualified(a.Subject, body.References)
	}
	return reply{body: body}, nil
}

// removeSubject answers DELETE /subjects/{subject}.
func (r *Registry) removeSubject(q *request) (reply, error) {
	w, err := r.deleteSubject(q.Context(), q.subject(), q.flag("permanent"))
	return reply{body: w.answer, revision: w.revision}, err
}

// listVersions answers GET /subjects/{subject}/versions.
func (r *Registry) listVersions(q *request) (reply, error) {
	s := r.store.current()
	found, err := s.Versions(s.Alias(q.subject()), q.flag("deleted"), q.flag("deletedOnly"))
	if err != nil {
		return reply{}, err
	}
	numbers := make([]ledger.Version, len(found))
	for i, v := range found {
		numbers[i] = v.Version
		if v.Deleted && q.flag("deletedAsNegative") {
			numbers[i] = -v.Version
		}
	}
	return paged(q, numbers)
}

// registerSchema answers POST /subjects/{subject}/versions.
func (r *Registry) registerSchema(q *request) (reply, error) {
	request, err := r.registration(q)
	if err != nil {
		return reply{}, err
	}
	request.Force = q.flag("force")
	w, err := r.register(q.Context(), request, q.flag("dryRun"))
	if err != nil {
		return reply{}, err
	}
	if !r.config.ExtendedRegister {
		return reply{body: registered{w.answer.ID}, revision: w.revision}, nil
	}
	v := versionOf(w.answer)
	return reply{revision: w.revision, body: registeredWhole{
		v.ID, v.Version, v.GUID, v.SchemaType, v.References, v.Metadata, v.RuleSet, v.Schema,
	}}, nil
}

// find returns the version that the path names.
func (r *Registry) findVersion(q *request, deleted bool) (ledger.Answer, error) {
	version, err := ledger.ParseVersion(q.params["version"])
	if err != nil {
		return ledger.Answer{}, err
	}
	s := r.store.current()
	return s.Get(s.Alias(q.subject()), version, deleted)
}

// getVersion answers GET /subjects/{subject}/versions/{version}.
func (r *Registry) getVersion(q *request) (reply, error) {
	answer, err := r.findVersion(q, q.flag("deleted"))
	if err != nil {
		return reply{}, err
	}
	return r.version(q, answer)
}

// getVersionText answers GET /subjects/{subject}/versions/{version}/schema.
func (r *Registry) getVersionText(q *request) (reply, error) {
	whole, err := r.getVersion(q)
	if err != nil {
		return reply{}, err
	}
	v, _ := whole.body.(schemaVersion)
	return reply{body: text(v.Schema)}, nil
}

// listReferrers answers GET /subjects/{subject}/versions/{version}/referencedby.
func (r *Registry) listReferrers(q *request) (reply, error) {
	answer, err := r.findVersion(q, true)
	if err != nil {
		return reply{}, err
	}
	return paged(q, r.store.current().ReferencedBy(answer.Subject, answer.Version,
		q.flag("deleted")))
}

// removeVersion answers DELETE /subjects/{subject}/versions/{version}.
func (r *Registry) removeVersion(q *request) (reply, error) {
	asked := q.params["version"]
	version, err := ledger.ParseVersion(asked)
	if err != nil {
		return reply{}, err
	}
	w, err := r.deleteVersion(q.Context(), q.subject(), version, asked, q.flag("permanent"))
	return reply{body: w.answer, revision: w.revision}, err
}

// getByMetadata answers GET /subjects/{subject}/metadata.
func (r *Registry) getByMetadata(q *request) (reply, error) {
	keys, values := q.query["key"], q.query["value"]
	if len(keys) != len(values) {
		return reply{}, ledger.BadRequest.With("The query needs a value for each key")
	}
	properties := make(map[string]string, len(keys))
	for i, key := range keys {
		properties[key] = values[i]
	}
	s := r.store.current()
	answer, err := s.WithMetadata(s.Alias(q.subject()), properties, q.flag("deleted"))
	if err != nil {
		return reply{}, err
	}
	return r.version(q, answer)
}

// checkVersion answers POST /compatibility/subjects/{subject}/versions/{version}.
func (r *Registry) checkVersion(q *request) (reply, error) {
	version, err := ledger.ParseVersion(q.params["version"])
	if err != nil {
		return reply{}, err
	}
	return r.checkSchema(q, version)
}

// checkHistory answers POST /compatibility/subjects/{subject}/versions.
func (r *Registry) checkHistory(q *request) (reply, error) { return r.checkSchema(q, 0) }

func (r *Registry) checkSchema(q *request, version ledger.Version) (reply, error) {
	request, err := r.registration(q)
	if err != nil {
		return reply{}, err
	}
	messages, err := r.check(request, version)
	verbose := q.flag("verbose")
	if p, ok := ledger.ProblemOf(err); ok && p.Kind == ledger.InvalidSchema && verbose {
		messages, err = []string{p.Error()}, nil
	}
	if err != nil {
		return reply{}, err
	}
	body := compatibility{IsCompatible: len(messages) == 0}
	if verbose {
		if messages == nil {
			messages = []string{}
		}
		body.Messages = &messages
	}
	return reply{body: body}, nil
}
