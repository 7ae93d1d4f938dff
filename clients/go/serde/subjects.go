package serde

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/sluicelog/sluice/internal/avro"
)

// Schema is a schema as the registry keeps it.
type Schema struct {
	// Text is the schema itself.
	Text string `json:"schema"`
	// Type is AVRO, which nothing stands for too.
	Type string `json:"schemaType,omitempty"`
	// References are the schemas whose types it names.
	References []Reference `json:"references,omitempty"`
}

// Reference names a schema whose types another uses.
type Reference struct {
	// Name is the full name of the type.
	Name string `json:"name"`
	// Subject and Version are where the registry keeps it. Version -1 is the
	// latest.
	Subject string `json:"subject"`
	Version int    `json:"version"`
}

// SubjectSchema is a version of a subject.
type SubjectSchema struct {
	// Subject is the name that the schema is registered under.
	Subject string `json:"subject"`
	// Version counts the subject's schemas from 1.
	Version int `json:"version"`
	// ID is the schema's own, the same in every subject.
	ID ID `json:"id"`
	Schema
}

// Compatibility is a registry's verdict on a schema.
type Compatibility struct {
	// Compatible tells that it may be registered.
	Compatible bool `json:"is_compatible"`
	// Messages say why not.
	Messages []string `json:"messages,omitempty"`
}

// LatestVersion stands for the latest version of a subject.
const LatestVersion = -1

func versionText(version int) string {
	if version == LatestVersion {
		return latestText
	}
	return strconv.Itoa(version)
}

func flag(name string, on bool) url.Values {
	if !on {
		return nil
	}
	return url.Values{name: {"true"}}
}

// key is what a schema is cached under.
func (s Schema) key(subject string) textKey {
	text := s.Text
	if len(s.References) > 0 {
		if references, err := json.Marshal(s.References); err == nil {
			text += "\x00" + string(references)
		}
	}
	return textKey{subject: subject, text: text}
}

func (s Schema) weight() int { return entryBytes + len(s.Text) + 100*len(s.References) }

// Register registers a schema under a subject, unless it is there, and returns
// its id. Normalize makes schemas that mean the same one. An error is
// ErrIncompatible if the subject's rules refuse it, ErrSchema if it is none.
func (r *Registry) Register(
	ctx context.Context, subject string, s Schema, normalize bool,
) (ID, error) {
	key := s.key(subject)
	key.normalize = normalize
	return r.byText.Get(ctx, key, func(ctx context.Context) (ID, int, error) {
		var answer struct {
			ID ID `json:"id"`
		}
		err := r.call(ctx, request{
			method: http.MethodPost, path: []string{"subjects", subject, "versions"},
			query: flag("normalize", normalize), body: s,
		}, &answer)
		return answer.ID, s.weight(), err
	})
}

// Lookup finds a schema under a subject. An error is ErrNotFound if it is not
// registered there.
func (r *Registry) Lookup(
	ctx context.Context, subject string, s Schema, normalize bool,
) (SubjectSchema, error) {
	var answer SubjectSchema
	err := r.call(ctx, request{
		method: http.MethodPost, path: []string{"subjects", subject},
		query: flag("normalize", normalize), body: s,
	}, &answer)
	return answer, err
}

// LookupID is Lookup for the id alone, which it keeps.
func (r *Registry) LookupID(
	ctx context.Context, subject string, s Schema, normalize bool,
) (ID, error) {
	key := s.key(subject)
	key.normalize, key.lookup = normalize, true
	return r.byText.Get(ctx, key, func(ctx context.Context) (ID, int, error) {
		found, err := r.Lookup(ctx, subject, s, normalize)
		return found.ID, s.weight(), err
	})
}

// SchemaByID returns the schema with an id. An error is ErrNotFound if there is
// none.
func (r *Registry) SchemaByID(ctx context.Context, id ID) (Schema, error) {
	return r.byID.Get(ctx, id, func(ctx context.Context) (Schema, int, error) {
		var s Schema
		err := r.call(ctx, request{
			method: http.MethodGet, path: []string{"schemas", "ids", strconv.Itoa(int(id))},
		}, &s)
		return s, s.weight(), err
	})
}

// Version returns a version of a subject, or the latest for LatestVersion,
// which it asks for each time. An error is ErrNotFound if there is none.
func (r *Registry) Version(
	ctx context.Context, subject string, version int,
) (SubjectSchema, error) {
	if version == LatestVersion {
		return r.version(ctx, subject, version)
	}
	return r.byVersion.Get(ctx, versionKey{subject, version},
		func(ctx context.Context) (SubjectSchema, int, error) {
			s, err := r.version(ctx, subject, version)
			return s, s.weight(), err
		})
}

func (r *Registry) version(
	ctx context.Context, subject string, version int,
) (SubjectSchema, error) {
	var s SubjectSchema
	err := r.call(ctx, request{
		method: http.MethodGet,
		path:   []string{"subjects", subject, "versions", versionText(version)},
	}, &s)
	return s, err
}

// Latest returns the latest version of a subject.
func (r *Registry) Latest(ctx context.Context, subject string) (SubjectSchema, error) {
	return r.Version(ctx, subject, LatestVersion)
}

// Subjects returns the names of the subjects that start with a prefix, sorted.
func (r *Registry) Subjects(ctx context.Context, prefix string) ([]string, error) {
	var query url.Values
	if prefix != "" {
		query = url.Values{"subjectPrefix": {prefix}}
	}
	var names []string
	err := r.call(ctx, request{
		method: http.MethodGet, path: []string{"subjects"}, query: query,
	}, &names)
	return names, err
}

// Versions returns the numbers of a subject's versions, in order.
func (r *Registry) Versions(ctx context.Context, subject string) ([]int, error) {
	var versions []int
	err := r.call(ctx, request{
		method: http.MethodGet, path: []string{"subjects", subject, "versions"},
	}, &versions)
	return versions, err
}

// Compatible asks whether a schema may follow a version of a subject, without
// registering it. With LatestVersion, a subject that is not there is fine.
func (r *Registry) Compatible(
	ctx context.Context, subject string, version int, s Schema,
) (Compatibility, error) {
	var verdict Compatibility
	err := r.call(ctx, request{
		method: http.MethodPost, body: s, query: flag("verbose", true),
		path: []string{"compatibility", "subjects", subject, "versions", versionText(version)},
	}, &verdict)
	return verdict, err
}

// DeleteSubject deletes a subject and returns its versions. What was written
// with them can still be read, unless it is permanent, which needs a deletion
// before. It is sent once.
func (r *Registry) DeleteSubject(
	ctx context.Context, subject string, permanent bool,
) ([]int, error) {
	var versions []int
	err := r.call(ctx, request{
		method: http.MethodDelete, path: []string{"subjects", subject},
		query: flag("permanent", permanent), once: true,
	}, &versions)
	return versions, err
}

// DeleteVersion deletes a version of a subject, as DeleteSubject does, and
// returns its number.
func (r *Registry) DeleteVersion(
	ctx context.Context, subject string, version int, permanent bool,
) (int, error) {
	deleted := 0
	err := r.call(ctx, request{
		method: http.MethodDelete, query: flag("permanent", permanent), once: true,
		path: []string{"subjects", subject, "versions", versionText(version)},
	}, &deleted)
	r.byVersion.Drop(versionKey{subject, deleted})
	return deleted, err
}

func configPath(subject string) []string {
	if subject == "" {
		return []string{"config"}
	}
	return []string{"config", subject}
}

// Level returns the compatibility level of a subject, such as BACKWARD, or the
// registry's own where subject is empty or has none.
func (r *Registry) Level(ctx context.Context, subject string) (string, error) {
	var answer struct {
		Level string `json:"compatibilityLevel"`
	}
	err := r.call(ctx, request{
		method: http.MethodGet, path: configPath(subject),
		query: flag("defaultToGlobal", subject != ""),
	}, &answer)
	return answer.Level, err
}

// SetLevel sets the compatibility level of a subject, or the registry's own
// where subject is empty.
func (r *Registry) SetLevel(ctx context.Context, subject, level string) error {
	return r.call(ctx, request{
		method: http.MethodPut, path: configPath(subject),
		body: map[string]string{"compatibility": level},
	}, nil)
}

// References returns the texts of the schemas that s refers to, and they in
// turn, each before those that use it: what NewCodec takes.
func (r *Registry) References(ctx context.Context, s Schema) ([]string, error) {
	w := referenceWalk{registry: r, seen: map[versionKey]bool{}}
	if err := w.visit(ctx, s, 0); err != nil {
		return nil, err
	}
	return w.texts, nil
}

type referenceWalk struct {
	registry *Registry
	seen     map[versionKey]bool
	texts    []string
	bytes    int
}

func (w *referenceWalk) visit(ctx context.Context, s Schema, depth int) error {
	if depth > referenceDepth {
		return fmt.Errorf("%w: references are nested more than %d deep", ErrSchema, referenceDepth)
	}
	for _, reference := range s.References {
		key := versionKey{reference.Subject, reference.Version}
		if w.seen[key] {
			continue
		}
		w.seen[key] = true
		if len(w.seen) > referenceCount {
			return fmt.Errorf("%w: more than %d references", ErrSchema, referenceCount)
		}
		used, err := w.registry.Version(ctx, reference.Subject, reference.Version)
		if err != nil {
			return fmt.Errorf("finding the reference %q: %w", clip(reference.Name), err)
		}
		if err := w.visit(ctx, used.Schema, depth+1); err != nil {
			return err
		}
		if w.bytes += len(used.Text); w.bytes > avro.DefaultLimits().ReferenceBytes {
			return fmt.Errorf("%w: the references have more than %d bytes", ErrSchema,
				avro.DefaultLimits().ReferenceBytes)
		}
		w.texts = append(w.texts, used.Text)
	}
	return nil
}
