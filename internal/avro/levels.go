package avro

import (
	"fmt"
	"slices"
	"strings"
)

// Level says which versions of a subject must be able to read which.
type Level uint8

// The levels. Backward means that the new schema reads what old ones wrote,
// forward that old schemas read what the new one writes, full is both. A
// transitive level looks at all old versions, any other at the newest.
const (
	LevelNone Level = iota + 1
	LevelBackward
	LevelBackwardTransitive
	LevelForward
	LevelForwardTransitive
	LevelFull
	LevelFullTransitive
)

var levelNames = [...]string{
	LevelNone: "NONE", LevelBackward: "BACKWARD",
	LevelBackwardTransitive: "BACKWARD_TRANSITIVE", LevelForward: "FORWARD",
	LevelForwardTransitive: "FORWARD_TRANSITIVE", LevelFull: "FULL",
	LevelFullTransitive: "FULL_TRANSITIVE",
}

// ParseLevel reads a level's name, in any case; false if there is no such
// level.
func ParseLevel(name string) (Level, bool) {
	for l, known := range levelNames {
		if known != "" && strings.EqualFold(known, name) {
			return Level(l), true
		}
	}
	return 0, false
}

// String returns the level's name, such as "BACKWARD".
func (l Level) String() string {
	if int(l) < len(levelNames) {
		return levelNames[l]
	}
	return ""
}

func (l Level) transitive() bool {
	return l == LevelBackwardTransitive || l == LevelForwardTransitive || l == LevelFullTransitive
}

// Version is an earlier version of a subject.
type Version struct {
	// Number is the version's number, from 1; 0 leaves it out of messages.
	Number int32
	// Schema is what was registered.
	Schema *Schema
}

// Verdict says whether a schema may follow the versions before it.
type Verdict struct {
	// Level is the level that was asked for.
	Level Level
	// Failed is the number of the version that does not fit, 0 if all fit.
	Failed int32
	// Messages say why not, in the registry's words and order; none if the
	// schema is compatible. They end with the old version and its text.
	Messages []string
}

// Compatible tells whether the schema may follow.
func (v Verdict) Compatible() bool { return len(v.Messages) == 0 }

// Verbose returns the messages with the one that tells the registry's
// settings, or none if the schema is compatible.
func (v Verdict) Verbose(validateFields bool) []string {
	if v.Compatible() {
		return nil
	}
	return append(slices.Clip(v.Messages), fmt.Sprintf(
		"{validateFields: '%t', compatibility: '%s'}", validateFields, v.Level))
}

// Check compares a new schema with the history of its subject, oldest first.
// It looks at the newest version first, and stops at the first that does not
// fit.
func (l Level) Check(next *Schema, history []Version) Verdict {
	v := Verdict{Level: l}
	for i := len(history) - 1; i >= 0 && l != LevelNone; i-- {
		if v.Messages = l.against(next, history[i]); len(v.Messages) > 0 {
			v.Failed = history[i].Number
			return v
		}
		if !l.transitive() {
			break
		}
	}
	return v
}

// against returns the messages about one old version: what the old schema
// cannot read, then what the new one cannot.
func (l Level) against(next *Schema, old Version) []string {
	switch l {
	case LevelBackward, LevelBackwardTransitive:
		return quote(messages(next, old.Schema, "new", "old"), old)
	case LevelForward, LevelForwardTransitive:
		return quote(messages(old.Schema, next, "old", "new"), old)
	case LevelFull, LevelFullTransitive:
		return append(messages(old.Schema, next, "old", "new"),
			quote(messages(next, old.Schema, "new", "old"), old)...)
	}
	return nil
}

func messages(reader, writer *Schema, readerWord, writerWord string) []string {
	reasons, err := Compatible(reader, writer)
	if err != nil {
		return []string{"Unexpected exception during compatibility check: " + describe(err)}
	}
	all := make([]string, len(reasons))
	for i, r := range reasons {
		all[i] = r.Explain(readerWord, writerWord)
	}
	return all
}

// quote appends what the registry tells about the old version.
func quote(all []string, old Version) []string {
	if len(all) == 0 {
		return nil
	}
	if old.Number > 0 {
		all = append(all, fmt.Sprintf("{oldSchemaVersion: %d}", old.Number))
	}
	return append(all, quoteOld(old.Schema))
}
