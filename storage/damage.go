package storage

import (
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
)

// errDamage marks what a read found broken on disk.
var errDamage = errors.New("stored data is damaged")

// recoverDamage turns a panic into an error, for code that walks through
// Badger's files: it panics on some broken ones, and a mapped page that the
// disk cannot deliver is a memory fault. Use it as a deferred call.
func recoverDamage(err *error) {
	switch r := recover().(type) {
	case nil:
	case runtime.Error:
		*err = fmt.Errorf("%w: %w", errDamage, r)
	case error:
		*err = fmt.Errorf("%w: %w", errDamage, r)
	default:
		*err = fmt.Errorf("%w: %v", errDamage, r)
	}
}

// guarded runs fn, which reads mapped files, so that damage comes back as an
// error wrapping errDamage instead of ending the process.
func guarded(fn func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer recoverDamage(&err)
	return fn()
}
