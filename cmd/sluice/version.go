package main

// version is what the node and the banner say. A release build sets it with
// -ldflags "-X main.version=...".
var version = "0.1.0-dev"
