package serde

import "net/http"

// FakeRegistry answers as a registry at any address, for the examples.
func FakeRegistry() http.RoundTripper { return newFake() }
