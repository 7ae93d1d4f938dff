// Package replica keeps the copies of a partition equal, and decides what is
// committed: replication as Kafka does it, with leader epochs (KIP-101, KIP-279,
// KIP-320), in-sync replicas, eligible leader replicas (KIP-966) and a high
// watermark, over the metadata of package cluster.
//
// Replicas are those of one node, Partition is one of them. Two pure cores
// decide: leader (rules L1 to L6 of docs/design/replication.md) and follower
// (F1 to F5). They have no clock, no goroutine and no I/O; the model and the
// simulation drive them exactly as the shell here does.
//
// The promise: a record that was acknowledged with acks=all survives any number
// of simultaneous power cuts, and the loss of the disks of up to
// min.insync.replicas - 1 replicas. What keeps it, in short: the high watermark
// passes a record only when it is on the disk of every replica that could be
// elected (I5, I6); whoever may be elected is decided by compare-and-set in
// etcd; and a replica that fetches from a new leader first cuts off what that
// one does not have (F2), never below what it knows to be committed (I8).
package replica
