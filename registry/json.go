package registry

import (
	"bytes"
	"encoding/json"

	"github.com/sluicelog/sluice/registry/ledger"
)

// encode writes the body of an answer.
func encode(body any) []byte {
	if t, ok := body.(text); ok {
		return []byte(t)
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(body); err != nil {
		panic("registry: an answer cannot be written: " + err.Error())
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// schemaString is what an id stands for.
type schemaString struct {
	Subject    string             `json:"subject,omitempty"`
	Version    ledger.Version     `json:"version,omitempty"`
	Schema     string             `json:"schema"`
	SchemaType string             `json:"schemaType"`
	References []ledger.Reference `json:"references,omitempty"`
	Metadata   *ledger.Metadata   `json:"metadata,omitempty"`
	RuleSet    *ledger.RuleSet    `json:"ruleSet,omitempty"`
	GUID       string             `json:"guid"`
	MaxID      ledger.ID          `json:"maxId,omitempty"`
}

// schemaVersion is a version of a subject.
type schemaVersion struct {
	Subject    string             `json:"subject"`
	Version    ledger.Version     `json:"version"`
	ID         ledger.ID          `json:"id"`
	GUID       string             `json:"guid"`
	SchemaType string             `json:"schemaType"`
	References []ledger.Reference `json:"references,omitempty"`
	Metadata   *ledger.Metadata   `json:"metadata,omitempty"`
	RuleSet    *ledger.RuleSet    `json:"ruleSet,omitempty"`
	Schema     string             `json:"schema"`
	Deleted    bool               `json:"deleted,omitempty"`
	Aliases    []string           `json:"aliases,omitempty"`
}

func versionOf(a ledger.Answer) schemaVersion {
	c := a.Content
	return schemaVersion{
		Subject: a.Subject, Version: a.Version, ID: a.ID, GUID: c.GUID.String(),
		SchemaType: ledger.AvroType, References: c.References, Metadata: c.Metadata,
		RuleSet: c.Rules, Schema: c.Text, Deleted: a.Deleted,
	}
}

// registered is the answer to a registration.
type registered struct {
	ID ledger.ID `json:"id"`
}

// registeredWhole is the extended one.
type registeredWhole struct {
	ID         ledger.ID          `json:"id"`
	Version    ledger.Version     `json:"version"`
	GUID       string             `json:"guid"`
	SchemaType string             `json:"schemaType"`
	References []ledger.Reference `json:"references,omitempty"`
	Metadata   *ledger.Metadata   `json:"metadata,omitempty"`
	RuleSet    *ledger.RuleSet    `json:"ruleSet,omitempty"`
	Schema     string             `json:"schema"`
}

// subjectVersion is where an id is registered.
type subjectVersion struct {
	Subject string         `json:"subject"`
	Version ledger.Version `json:"version"`
}

// contextID is an id that a GUID has.
type contextID struct {
	Context string    `json:"context"`
	ID      ledger.ID `json:"id"`
}

// compatibility is the answer to a check; the messages are there only if the
// caller wants them.
type compatibility struct {
	IsCompatible bool      `json:"is_compatible"`
	Messages     *[]string `json:"messages,omitempty"`
}

// modeBody is a mode as it is answered; none where only the modes below a context
// have been deleted.
type modeBody struct {
	Mode ledger.Mode `json:"mode,omitempty"`
}

// configUpdate is a config as it is set; the level has another name there than
// in a config that is read.
type configUpdate struct {
	Compatibility string `json:"compatibility,omitempty"`
	ledger.Config
}
