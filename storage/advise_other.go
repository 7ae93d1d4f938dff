//go:build !linux

package storage

// advise does nothing where mappings cannot be listed.
func advise(string) error { return nil }
