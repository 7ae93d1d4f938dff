package ledger

import (
	"strings"
	"unicode"
)

const (
	// DefaultContext is the context of subjects that name none.
	DefaultContext = "."
	// GlobalContext is the context whose config and mode apply where nothing
	// nearer is set.
	GlobalContext = ".__GLOBAL"
	// AllContexts, as a prefix, stands for every context.
	AllContexts = ":*:"
	// NoContext, as a prefix, stands for the default context.
	NoContext = ":.:"

	globalSubject = "__GLOBAL"
	emptySubject  = "__EMPTY"
)

// Name is the name of a subject: its context and its name there.
type Name struct {
	// Context begins with a dot; "." is the default context.
	Context string
	// Subject is the name within the context. It may be empty; an empty
	// subject of config or mode stands for the whole context.
	Subject string
}

// ParseName reads a subject as callers write it: "s", or ":.context:s". It
// never fails: what is no context is part of the name.
func ParseName(text string) Name {
	rest, ok := strings.CutPrefix(text, ":.")
	if !ok {
		return Name{DefaultContext, text}
	}
	context, subject, _ := strings.Cut(rest, ":")
	return Name{"." + context, subject}
}

// String returns the qualified name: the subject itself in the default
// context, ":.context:subject" in any other.
func (n Name) String() string { return n.Scope() + n.Subject }

// Scope returns the qualified name of the context: "" for the default one,
// ":.context:" for any other. Config and mode of a context are kept under it.
func (n Name) Scope() string {
	if n.Context == DefaultContext {
		return ""
	}
	return ":" + n.Context + ":"
}

// In returns the name of a subject that something in the context of n refers
// to: a subject without a context is in the same one.
func (n Name) In(subject string) Name {
	other := ParseName(subject)
	if other.Context == DefaultContext {
		other.Context = n.Context
	}
	return other
}

// Qualify returns a subject in its one form, so that ":.:s" is "s".
func Qualify(subject string) string { return ParseName(subject).String() }

// ParseContext reads the name of a context with or without its dot and
// colons, and returns false where it is none.
func ParseContext(text string) (string, bool) {
	text = strings.TrimSuffix(strings.TrimPrefix(text, ":"), ":")
	if strings.Contains(text, ":") || hasControl(text) {
		return "", false
	}
	if !strings.HasPrefix(text, ".") {
		text = "." + text
	}
	return text, true
}

// checkSubject refuses the names under which nothing can be registered.
func checkSubject(n Name) error {
	full := n.String()
	if hasControl(full) || n.Subject == globalSubject || n.Subject == emptySubject ||
		n.Context == GlobalContext {
		return InvalidSubject.With(visible(full))
	}
	return nil
}

func hasControl(text string) bool { return strings.ContainsFunc(text, unicode.IsControl) }

// visible makes a caller's text safe to show: no control characters, at most
// 256 bytes.
func visible(text string) string {
	if len(text) > 256 {
		text = strings.ToValidUTF8(text[:256], "") + "..."
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return unicode.ReplacementChar
		}
		return r
	}, text)
}
