// Package ledger is the schema registry as a state machine: what its state is,
// what each request does to it, and nothing else. It has no network, no
// goroutine and no clock.
//
// A decision (Register, DeleteVersion, SetConfig, ...) reads the state and
// returns an answer and the records that make it true; it changes nothing. Only
// Apply changes the state, one record at a time, so that a node that starts, a
// node that catches up and a node that has just written run the same code.
package ledger

// ID is the number of a schema within its context, from 1.
type ID int32

// Version is the number of a schema within its subject, from 1.
type Version int32

const (
	// NoID stands for a schema that names no id of its own.
	NoID ID = -1
	// Latest stands for the newest version of a subject that is not deleted.
	Latest Version = -1
	// VersionMax is the largest version there can be.
	VersionMax Version = 1<<31 - 1
)

// Revision is a position in the registry's log: the offset that follows the
// last record that was applied.
type Revision int64

// Record is what the registry's log holds: a key and a value, as documented in
// docs/formats/schemas-topic.md. A nil Value is a tombstone.
type Record struct {
	Key   []byte
	Value []byte
}
