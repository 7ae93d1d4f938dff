package registry

import (
	"strconv"
	"strings"

	"github.com/sluicelog/sluice/registry/ledger"
)

// subject returns the qualified subject that the path names; one without a
// context is in that of the path. Where the path names none it is the context.
func (q *request) subject() string { return q.qualify(q.params["subject"]) }

func (q *request) qualify(subject string) string {
	return ledger.Name{Context: q.context}.In(subject).String()
}

// flag returns a switch of the query.
func (q *request) flag(name string) bool { return strings.EqualFold(q.query.Get(name), "true") }

// number returns an integer of the query.
func (q *request) number(name string, absent int) (int, error) {
	given := q.query.Get(name)
	if given == "" {
		return absent, nil
	}
	n, err := strconv.ParseInt(given, 10, 32)
	if err != nil {
		return 0, ledger.BadRequest.With("The query parameter " + name + " is no integer")
	}
	return int(n), nil
}

// id returns the schema id that the path names.
func (q *request) id() (ledger.ID, error) {
	id, err := strconv.ParseInt(q.params["id"], 10, 32)
	if err != nil {
		return 0, ledger.NotFound.With()
	}
	return ledger.ID(id), nil
}

// prefix returns the prefix of subjects that the query asks for. An empty one
// is looked for in the context of the path.
func (q *request) prefix(absent string) string {
	prefix := absent
	if q.query.Has("subjectPrefix") {
		prefix = q.query.Get("subjectPrefix")
	}
	if q.scoped {
		prefix = q.qualify(strings.TrimPrefix(prefix, ledger.AllContexts))
	}
	if prefix == "" {
		return ledger.NoContext
	}
	return prefix
}

// page cuts a list to what offset and limit of the query ask for. A limit that
// is absent or negative is no limit.
func page[T any](q *request, all []T) ([]T, error) {
	offset, err := q.number("offset", 0)
	if err != nil {
		return nil, err
	}
	limit, err := q.number("limit", -1)
	if err != nil {
		return nil, err
	}
	all = all[min(max(offset, 0), len(all)):]
	if limit >= 0 {
		all = all[:min(limit, len(all))]
	}
	if all == nil {
		all = []T{} // lists are never null
	}
	return all, nil
}

// paged answers with a page of a list.
func paged[T any](q *request, all []T) (reply, error) {
	list, err := page(q, all)
	return reply{body: list}, err
}
