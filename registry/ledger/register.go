package ledger

import (
	"fmt"
	"strconv"

	"github.com/sluicelog/sluice/internal/avro"
)

// Registration is a request to register a schema, look it up or check it.
type Registration struct {
	// Subject is the subject's name, qualified or not.
	Subject string
	// Text is the schema.
	Text string
	// Type is the schema type; "" is AVRO.
	Type string
	// References, Metadata and Rules belong to the schema's identity. The
	// version of a reference may be Latest.
	References []Reference
	Metadata   *Metadata
	Rules      *RuleSet
	// ID is the id that an import gives, or NoID.
	ID ID
	// Version is the version that is asked for; 0 and Latest are the next one,
	// unless the schema is there already.
	Version Version
	// Normalize brings the schema into one form before it is compared.
	Normalize bool
	// Force skips the compatibility check.
	Force bool
	// Lax takes names and defaults that Avro's specification does not allow.
	Lax bool
}

// Answer is a version and the subject that it is of.
type Answer struct {
	// Subject is the qualified name of the subject.
	Subject string
	Registered
	// Fresh says that the registration made it.
	Fresh bool
}

// Register decides what a registration does. It writes nothing where the
// schema is in the subject already, and works then in every mode.
func (s *State) Register(p *Parser, r Registration) (Answer, []Change, error) {
	name := ParseName(r.Subject)
	r.Rules, r.Metadata = r.Rules.normalized(), r.Metadata.normalized()
	if err := r.check(name); err != nil {
		return Answer{}, nil, err
	}
	config := s.ConfigInScope(name.String())
	r.Normalize = r.Normalize || isSet(config.Normalize)
	if a, ok := s.known(p, name, r); ok {
		if r.ID != NoID && r.ID != a.ID {
			return Answer{}, nil, IDMismatch.With(a.ID, r.ID)
		}
		return a, nil, nil
	}
	if err := s.registrable(name, r.ID); err != nil {
		return Answer{}, nil, err
	}
	d := &decision{
		state: s, parser: p, name: name, subject: s.Subject(name.String()),
		config: config, mode: s.ModeInScope(name.String()),
	}
	return d.register(r)
}

func (r Registration) check(name Name) error {
	if err := checkSubject(name); err != nil {
		return err
	}
	if r.Type != "" && r.Type != AvroType {
		return InvalidSchema.With("Invalid schema type " + visible(r.Type))
	}
	return r.Rules.check()
}

// known finds a schema that is registered in the subject and not deleted.
func (s *State) known(p *Parser, name Name, r Registration) (Answer, bool) {
	if r.Version != 0 || r.Text == "" {
		return Answer{}, false
	}
	a, err := s.lookup(p, name, r, false)
	return a, err == nil
}

// registrable refuses a registration that the mode does not allow.
func (s *State) registrable(name Name, id ID) error {
	if err := s.writable(name); err != nil {
		return err
	}
	mode := s.ModeInScope(name.String())
	if id != NoID && mode != Import {
		return notPermitted(name, "is not in import mode")
	}
	if id == NoID && mode != ReadWrite {
		return notPermitted(name, "is not in read-write mode")
	}
	return nil
}

// decision is a registration that is being decided.
type decision struct {
	state   *State
	parser  *Parser
	name    Name
	subject *Subject // nil if it has no version
	config  Config
	mode    Mode
}

func (d *decision) register(r Registration) (Answer, []Change, error) {
	if d.mode != Import {
		r = d.populate(r)
	}
	next, content, err := d.parse(r)
	if err != nil {
		return Answer{}, nil, err
	}
	if r.Version == 0 || r.Version == Latest {
		if a, ok := d.state.present(d.subject, content); ok {
			return a, nil, nil
		}
	}
	id, err := d.id(r.ID, content)
	if err != nil {
		return Answer{}, nil, err
	}
	version, err := d.version(r.Version, id)
	if err != nil {
		return Answer{}, nil, err
	}
	if d.mode != Import && !r.Force {
		messages, err := d.history(next, content)
		if err != nil {
			return Answer{}, nil, err
		}
		if len(messages) > 0 {
			return Answer{}, nil, Incompatible.With(d.name, javaList(messages))
		}
	}
	v := Registered{Version: version, ID: id, Content: content}
	return Answer{Subject: d.name.String(), Registered: v, Fresh: true}, d.changes(v), nil
}

// populate fills in what a new version takes from the one before it and from
// the config.
func (d *decision) populate(r Registration) Registration {
	previous, ok := d.subject.Find(Latest)
	if ok && r.Text == "" && (r.Metadata != nil || r.Rules != nil) {
		r.Text, r.References = previous.Content.Text, previous.Content.References
	}
	meta, rules := r.Metadata, r.Rules
	if ok && meta == nil {
		meta = previous.Content.Metadata
	}
	if ok && rules == nil {
		rules = previous.Content.Rules
	}
	meta = d.config.DefaultMetadata.merge(meta).merge(d.config.OverrideMetadata)
	rules = d.config.DefaultRuleSet.merge(rules).merge(d.config.OverrideRuleSet)
	const own = "confluent:version"
	if meta.property(own) != "" {
		meta = meta.merge(&Metadata{Properties: map[string]string{
			own: strconv.Itoa(int(d.subject.next())),
		}})
	}
	r.Metadata, r.Rules = meta.normalized(), rules.normalized()
	return r
}

// parse reads the schema as a new one must be.
func (d *decision) parse(r Registration) (*parsed, *Content, error) {
	if r.Text == "" {
		return nil, nil, InvalidSchema.With("Empty schema")
	}
	w := way{mode: avro.Strict, normalize: r.Normalize, fresh: true}
	if r.Lax || d.mode == Import ||
		d.config.ValidateNewSchemas != nil && !*d.config.ValidateNewSchemas {
		w.mode = avro.Lenient
	}
	next, err := d.parser.parse(d.state, d.name, r.Text, r.References, w)
	if err != nil {
		return nil, nil, invalid(r, err)
	}
	if name, endless := next.schema.Endless(); endless {
		return nil, nil, invalid(r, fmt.Errorf("%w: %s", errEndless, name))
	}
	return next, NewContent(next.text, next.refs, r.Metadata, r.Rules), nil
}

// id returns the id that the content has in the context, or the next one.
func (d *decision) id(asked ID, content *Content) (ID, error) {
	known, keys := d.state.Content(content.GUID)
	if known != nil && !known.same(content) {
		return 0, InvalidSchema.With("Another schema has the GUID " + content.GUID.String())
	}
	if asked != NoID {
		e := d.state.Entry(d.name.Context, asked)
		if asked < 1 {
			return 0, InvalidSchema.With("The id of an imported schema is at least 1")
		}
		if e != nil && !e.Content.same(content) {
			return 0, NotPermitted.With(fmt.Sprintf("Overwrite new schema with id %d in context "+
				"%s is not permitted.", asked, d.name.Context))
		}
		return asked, nil
	}
	for _, key := range keys {
		if key.Context == d.name.Context {
			return key.ID, nil
		}
	}
	last := d.state.MaxID(d.name.Context)
	if last == ID(VersionMax) {
		return 0, StoreFailed.With("Error while registering the schema: all ids are in use")
	}
	return last + 1, nil
}

func (d *decision) version(asked Version, id ID) (Version, error) {
	next := d.subject.next()
	switch {
	case asked == 0 || asked == Latest:
		return next, nil
	case asked < 1:
		return 0, InvalidVersion.With(strconv.Itoa(int(asked)))
	case d.mode != Import && asked != next:
		return 0, InvalidSchema.With("Version is not one more than previous version")
	}
	if old, ok := d.subject.Find(asked); ok && old.ID != id {
		return 0, NotPermitted.With(fmt.Sprintf("Overwrite version %d of subject %s in context "+
			"%s is not permitted.", asked, visible(d.name.Subject), d.name.Context))
	}
	return asked, nil
}

// changes returns what makes a new version true: its record, before it the
// context's, if it is new, and tombstones for deleted versions of the same
// schema.
func (d *decision) changes(v Registered) []Change {
	subject := d.name.String()
	var all []Change
	if d.name.Context != DefaultContext && !d.state.context(d.name.Context).recorded {
		all = append(all, Change{Kind: ContextChange, Context: d.name.Context})
	}
	if e := d.state.Entry(d.name.Context, v.ID); e != nil {
		for _, use := range e.Uses {
			if use.Subject == subject && use.Version < v.Version && !d.state.live(use) {
				all = append(all, Change{
					Kind: SchemaChange, Removed: true,
					Subject: subject, Version: use.Version,
				})
			}
		}
	}
	return append(all, Change{
		Kind: SchemaChange, Subject: subject, Version: v.Version,
		ID: v.ID, Content: v.Content,
	})
}
