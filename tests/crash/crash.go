// Package crash proves that the log keeps its promise: it lets a process
// append, takes its life, its power, its disk space or a piece of its files
// away, starts it again, and compares what is there with what was acknowledged.
//
// Power cuts happen on a file system of its own (mount.go) that keeps written
// data in memory and forgets, at a cut, what was not synced: file contents,
// lengths and names, mapped files included.
//
// The package is a module of its own, so that the file system's library stays
// out of the product. `make crash` and `make crash-short` run it.
package crash
