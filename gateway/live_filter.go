package gateway

import (
	"bytes"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/sluicelog/sluice/internal/fault"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
)

const (
	filterCountMax = 16      // values of one parameter
	filterBytesMax = 1 << 10 // of one value
)

// filter chooses the records of a live stream. All of what it says must hold; of
// the keys one.
type filter struct {
	keys     []string
	prefixes []string
	headers  []headerFilter
}

// headerFilter asks for a header: of a name, or of a name and value.
type headerFilter struct {
	name  string
	value *string
}

// filterOf reads the filter of a query: nil where there is none.
func filterOf(query url.Values) (*filter, error) {
	for _, name := range []string{"key", "key_prefix", "header"} {
		if n := len(query[name]); n > filterCountMax {
			return nil, fault.InvalidRequest.With().At(name,
				fmt.Sprintf("given %d times, at most %d", n, filterCountMax))
		}
		for _, value := range query[name] {
			if len(value) > filterBytesMax {
				return nil, fault.InvalidRequest.With().At(name,
					fmt.Sprintf("has %d bytes, at most %d", len(value), filterBytesMax))
			}
		}
	}
	f := &filter{keys: query["key"], prefixes: query["key_prefix"]}
	for _, text := range query["header"] {
		name, value, valued := strings.Cut(text, ":")
		if name == "" {
			return nil, fault.InvalidRequest.With().At("header",
				"no name; it is name, or name:value")
		}
		wanted := headerFilter{name: name}
		if valued {
			wanted.value = &value
		}
		f.headers = append(f.headers, wanted)
	}
	if len(f.keys)+len(f.prefixes)+len(f.headers) == 0 {
		return nil, nil
	}
	return f, nil
}

// takes reports whether a record passes. A nil filter takes all.
func (f *filter) takes(r *sluicev1.Record) bool {
	if f == nil {
		return true
	}
	if len(f.keys)+len(f.prefixes) > 0 && (r.Key == nil || !f.takesKey(r.Key)) {
		return false
	}
	for _, wanted := range f.headers {
		if !slices.ContainsFunc(r.GetHeaders(), wanted.is) {
			return false
		}
	}
	return true
}

func (f *filter) takesKey(key []byte) bool {
	return slices.ContainsFunc(f.keys, func(want string) bool { return want == string(key) }) ||
		slices.ContainsFunc(f.prefixes, func(want string) bool {
			return bytes.HasPrefix(key, []byte(want))
		})
}

// is reports whether a header is the one that is asked for.
func (w headerFilter) is(h *sluicev1.Header) bool {
	return h.GetName() == w.name &&
		(w.value == nil || h.Value != nil && *w.value == string(h.Value))
}
