package ledger

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// Keys and values are JSON objects whose fields stand in one order: compaction
// compares keys byte by byte.
type (
	recordKey struct {
		Keytype ChangeKind `json:"keytype"`
		Subject *string    `json:"subject,omitempty"`
		Version Version    `json:"version,omitempty"`
		Tenant  string     `json:"tenant,omitempty"`
		Context string     `json:"context,omitempty"`
		Magic   int        `json:"magic"`
	}
	// globalKey is the key of config and mode of everything, whose subject is
	// null.
	globalKey struct {
		Keytype ChangeKind `json:"keytype"`
		Subject *string    `json:"subject"`
		Magic   int        `json:"magic"`
	}
	schemaValue struct {
		Subject    string      `json:"subject"`
		Version    Version     `json:"version"`
		ID         ID          `json:"id"`
		References []Reference `json:"references,omitempty"`
		Metadata   *Metadata   `json:"metadata,omitempty"`
		RuleSet    *RuleSet    `json:"ruleSet,omitempty"`
		Schema     string      `json:"schema"`
		Deleted    bool        `json:"deleted"`
	}
	configValue struct {
		Subject *string `json:"subject"`
		Config
	}
	modeValue struct {
		Subject *string `json:"subject"`
		Mode    Mode    `json:"mode"`
	}
	subjectValue struct {
		Subject string  `json:"subject"`
		Version Version `json:"version,omitempty"`
	}
	contextValue struct {
		Tenant  string `json:"tenant"`
		Context string `json:"context"`
		MaxID   ID     `json:"maxId,omitempty"`
	}
)

const tenant = "default"

// Record returns the record that says the change.
func (c Change) Record() Record {
	r := Record{Key: c.key()}
	if c.Removed {
		return r
	}
	switch c.Kind {
	case SchemaChange:
		r.Value = encode(schemaValue{
			c.Subject, c.Version, c.ID, c.Content.References,
			c.Content.Metadata, c.Content.Rules, c.Content.Text, c.Deleted,
		})
	case ConfigChange:
		r.Value = encode(configValue{scope(c.Subject), c.Config})
	case ModeChange:
		r.Value = encode(modeValue{scope(c.Subject), c.Mode})
	case SubjectDelete, SubjectClear:
		r.Value = encode(subjectValue{c.Subject, c.Version})
	case ContextChange:
		r.Value = encode(contextValue{tenant, c.Context, c.MaxID})
	}
	return r
}

func (c Change) key() []byte {
	switch c.Kind {
	case SchemaChange:
		return encode(recordKey{Keytype: c.Kind, Subject: &c.Subject, Version: c.Version, Magic: 1})
	case ConfigChange, ModeChange:
		return encode(globalKey{Keytype: c.Kind, Subject: scope(c.Subject)})
	case ContextChange:
		return encode(recordKey{Keytype: c.Kind, Tenant: tenant, Context: c.Context})
	case NoChange:
		return encode(recordKey{Keytype: c.Kind})
	}
	return encode(recordKey{Keytype: c.Kind, Subject: &c.Subject})
}

// scope returns what the subject of config and mode is called in a record.
func scope(subject string) *string {
	if subject == "" {
		return nil
	}
	return &subject
}

// encode writes JSON with nothing escaped that need not be.
func encode(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic("ledger: a record cannot be written: " + err.Error())
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

var errRecord = errors.New("not a record of the registry")

// Decode reads a record of the log. Fields that it does not know are ignored;
// a record that it cannot read is an error, and means nothing to the state.
func Decode(r Record) (Change, error) {
	key, err := scanKey(r.Key)
	if err != nil {
		return Change{}, fmt.Errorf("%w: its key: %w", errRecord, err)
	}
	c := Change{
		Kind: key.Keytype, Version: key.Version, Context: key.Context,
		Removed: r.Value == nil,
	}
	if key.Subject != nil {
		c.Subject = Qualify(*key.Subject)
	}
	if c.Kind == SchemaChange && (c.Version < 1 || key.Subject == nil) {
		return Change{}, fmt.Errorf("%w: its key names no subject and version", errRecord)
	}
	if c.Removed {
		return c, nil
	}
	if err := c.decode(r.Value); err != nil {
		return Change{}, fmt.Errorf("%w: its value: %w", errRecord, err)
	}
	return c, nil
}

func (c *Change) decode(value []byte) error {
	switch c.Kind {
	case SchemaChange:
		return c.decodeSchema(value)
	case ConfigChange:
		var v configValue
		err := json.Unmarshal(value, &v)
		c.Config = v.Config
		return err
	case ModeChange:
		var v modeValue
		if err := json.Unmarshal(value, &v); err != nil {
			return err
		}
		mode, ok := ParseMode(string(v.Mode))
		if !ok {
			return fmt.Errorf("no mode %q", v.Mode)
		}
		c.Mode = mode
	case SubjectDelete, SubjectClear:
		var v subjectValue
		err := json.Unmarshal(value, &v)
		c.Version = v.Version
		return err
	case ContextChange:
		var v contextValue
		err := json.Unmarshal(value, &v)
		c.MaxID = v.MaxID
		return err
	case NoChange:
	default:
		return fmt.Errorf("no keytype %q", c.Kind)
	}
	return nil
}

func (c *Change) decodeSchema(value []byte) error {
	v, err := scanSchemaValue(value)
	if err != nil {
		return err
	}
	if v.ID < 1 {
		return fmt.Errorf("no id %d", v.ID)
	}
	c.ID, c.Deleted = v.ID, v.Deleted
	c.Content = NewContent(v.Schema, v.References, v.Metadata, v.RuleSet)
	return nil
}
