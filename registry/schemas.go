package registry

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/sluicelog/sluice/registry/ledger"
)

// listTypes answers GET /schemas/types.
func (r *Registry) listTypes(*request) (reply, error) {
	return reply{body: []string{ledger.AvroType}}, nil
}

// getSchema answers GET /schemas/ids/{id}.
func (r *Registry) getSchema(q *request) (reply, error) {
	body, err := r.schemaOfID(q)
	if err != nil {
		return reply{}, err
	}
	if q.query.Get("subject") == "" && !q.flag("fetchMaxId") {
		// An id never means another schema, so that whoever has it may keep it.
		tag := `"` + body.GUID + "." + q.query.Get("format") +
			q.query.Get("referenceFormat") + `"`
		if strings.ContainsAny(tag[1:len(tag)-1], "\" \\,") {
			return reply{body: body}, nil
		}
		q.header.Set("ETag", tag)
		q.header.Set("Cache-Control", "public, max-age=31536000, immutable")
		if matches(q.Request.Header.Values("If-None-Match"), tag) {
			return reply{status: http.StatusNotModified}, nil
		}
	}
	return reply{body: body}, nil
}

// matches tells whether If-None-Match names an entity tag (RFC 9110, section
// 13.1.2).
func matches(header []string, tag string) bool {
	for item := range strings.SplitSeq(strings.Join(header, ","), ",") {
		item = strings.TrimSpace(item)
		if item == "*" || strings.TrimPrefix(item, "W/") == tag {
			return true
		}
	}
	return false
}

func (r *Registry) schemaOfID(q *request) (body schemaString, err error) {
	id, err := q.id()
	if err != nil {
		return body, err
	}
	s := r.store.current()
	subject := q.query.Get("subject")
	if ledger.ParseName(subject).Subject != "" {
		subject = s.Alias(q.qualify(subject))
	} else {
		subject = q.qualify(subject)
	}
	a, err := s.ByID(id, subject)
	if err != nil {
		return body, err
	}
	if body, err = r.schemaString(q, a); err != nil {
		return body, err
	}
	if q.query.Get("subject") != "" {
		body.Subject, body.Version = a.Subject, a.Version
	}
	if q.flag("fetchMaxId") {
		body.MaxID = s.MaxID(ledger.ParseName(a.Subject).Context)
	}
	return body, nil
}

func (r *Registry) schemaString(q *request, a ledger.Answer) (schemaString, error) {
	whole, err := r.version(q, a)
	if err != nil {
		return schemaString{}, err
	}
	v, _ := whole.body.(schemaVersion)
	return schemaString{
		Schema: v.Schema, SchemaType: v.SchemaType, References: v.References,
		Metadata: v.Metadata, RuleSet: v.RuleSet, GUID: v.GUID,
	}, nil
}

// getSchemaText answers GET /schemas/ids/{id}/schema.
func (r *Registry) getSchemaText(q *request) (reply, error) {
	body, err := r.schemaOfID(q)
	return reply{body: text(body.Schema)}, err
}

// listUses answers GET /schemas/ids/{id}/versions.
func (r *Registry) listUses(q *request) (reply, error) {
	uses, err := r.uses(q)
	if err != nil {
		return reply{}, err
	}
	found := make([]subjectVersion, len(uses))
	for i, use := range uses {
		found[i] = subjectVersion(use)
	}
	return paged(q, found)
}

// listUsers answers GET /schemas/ids/{id}/subjects.
func (r *Registry) listUsers(q *request) (reply, error) {
	uses, err := r.uses(q)
	if err != nil {
		return reply{}, err
	}
	var found []string
	for i, use := range uses {
		if i == 0 || use.Subject != uses[i-1].Subject {
			found = append(found, use.Subject)
		}
	}
	return paged(q, found)
}

func (r *Registry) uses(q *request) ([]ledger.Use, error) {
	id, err := q.id()
	if err != nil {
		return nil, err
	}
	return r.store.current().UsesOf(id, q.qualify(q.query.Get("subject")), q.flag("deleted"))
}

// getGUID answers GET /schemas/guids/{guid}.
func (r *Registry) getGUID(q *request) (reply, error) {
	content, keys, err := r.guid(q)
	if err != nil {
		return reply{}, err
	}
	s := r.store.current()
	a := ledger.Answer{Registered: ledger.Registered{Content: content}}
	if e := s.Entry(keys[0].Context, keys[0].ID); e != nil {
		a.Subject = e.Uses[0].Subject
	}
	body, err := r.schemaString(q, a)
	return reply{body: body}, err
}

// listGUIDs answers GET /schemas/guids/{guid}/ids.
func (r *Registry) listGUIDs(q *request) (reply, error) {
	_, keys, err := r.guid(q)
	if err != nil {
		return reply{}, err
	}
	found := make([]contextID, len(keys))
	for i, key := range keys {
		found[i] = contextID(key)
	}
	return reply{body: found}, nil
}

func (r *Registry) guid(q *request) (*ledger.Content, []ledger.Key, error) {
	given := q.params["guid"]
	guid, ok := ledger.ParseGUID(given)
	if !ok {
		return nil, nil, ledger.SchemaNotFound.With()
	}
	content, keys := r.store.current().Content(guid)
	if content == nil {
		return nil, nil, ledger.SchemaIDNotFound.With(guid)
	}
	return content, keys, nil
}

// listing is what GET /schemas is asked for.
type listing struct {
	names         []string
	deleted       bool
	latestOnly    bool
	ruleType      string
	aliases       map[string][]string
	offset, limit int
}

// listSchemas answers GET /schemas, one schema after the other, so that a page
// of large schemas takes no memory.
func (r *Registry) listSchemas(q *request) (reply, error) {
	offset, err := q.number("offset", 0)
	if err != nil {
		return reply{}, err
	}
	limit, err := q.number("limit", -1)
	if err != nil {
		return reply{}, err
	}
	most := r.config.Limits.PageCountMax
	if limit < 0 || limit > most {
		limit = most
	}
	s := r.store.current()
	l := listing{
		deleted: q.flag("deleted"), latestOnly: q.flag("latestOnly"),
		ruleType: q.query.Get("ruleType"), offset: max(offset, 0), limit: limit,
	}
	if q.flag("aliases") {
		l.aliases = s.AliasesOf()
		l.names = s.NamesToo(q.prefix(""), l.aliases)
	} else {
		l.names = s.Names(q.prefix(""))
	}
	return reply{body: stream(func(w http.ResponseWriter) error {
		return r.writeSchemas(w, s, l)
	})}, nil
}

func (r *Registry) writeSchemas(w http.ResponseWriter, s *ledger.State, l listing) error {
	controller := http.NewResponseController(w)
	between := "["
	for _, name := range l.names {
		for _, v := range l.versions(s.Subject(name)) {
			if l.offset > 0 {
				l.offset--
				continue
			}
			if l.limit == 0 {
				break
			}
			l.limit--
			body := versionOf(ledger.Answer{Subject: name, Registered: v})
			body.Aliases = l.aliases[name]
			err := controller.SetWriteDeadline(time.Now().Add(r.config.Limits.ResponseTimeout))
			if err != nil && !errors.Is(err, http.ErrNotSupported) {
				return err
			}
			if _, err := w.Write(append([]byte(between), encode(body)...)); err != nil {
				return err
			}
			between = ","
		}
		if l.limit == 0 {
			break
		}
	}
	if between == "[" {
		_, err := w.Write([]byte("[]"))
		return err
	}
	_, err := w.Write([]byte("]"))
	return err
}

// versions returns which versions of a subject belong to a listing.
func (l *listing) versions(u *ledger.Subject) []ledger.Registered {
	if u == nil {
		return nil
	}
	var found []ledger.Registered
	if l.latestOnly {
		latest, ok := u.Find(ledger.Latest)
		if l.deleted {
			latest, ok = u.Versions[len(u.Versions)-1], true
		}
		if ok {
			found = []ledger.Registered{latest}
		}
	} else {
		for _, v := range u.Versions {
			if l.deleted || !v.Deleted {
				found = append(found, v)
			}
		}
	}
	if l.ruleType == "" {
		return found
	}
	var ruled []ledger.Registered
	for _, v := range found {
		if v.Content.HasRule(l.ruleType) {
			ruled = append(ruled, v)
		}
	}
	return ruled
}
