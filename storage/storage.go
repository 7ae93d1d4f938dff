// Package storage keeps the records of partitions on disk: a partitioned log
// of Kafka's RecordBatch v2. The batches of all partitions of a node lie in one
// journal, written by one goroutine with one sync for the appends of all, and a
// Badger database beside it is the index: where each batch lies, and the small
// state of each partition. The journal is the truth; the index follows it.
//
// Open gives a Store, Store.Create a Partition, and a Partition appends, reads,
// trims and finds offsets by time. Everything that Append has answered is on
// disk, and stays readable at its offset until the log start passes it.
package storage

import (
	"encoding/hex"
	"fmt"
	"strings"
)

// Offset is the position of a record in its partition, counted from 0. An end
// offset is exclusive: the offset that the next record gets.
type Offset int64

// LeaderEpoch counts the leaders of a partition; every stored batch carries the
// epoch of the leader that took it (KIP-101). It never goes back along a log.
type LeaderEpoch int32

// TopicID identifies a topic for good: one that is deleted and made again under
// the same name has another id.
type TopicID [16]byte

// String returns the id as UUID text, in lower case.
func (id TopicID) String() string {
	h := hex.EncodeToString(id[:])
	return strings.Join([]string{h[:8], h[8:12], h[12:16], h[16:20], h[20:]}, "-")
}

// ParseTopicID reads the UUID text that String writes; letters may be of either
// case.
func ParseTopicID(text string) (TopicID, error) {
	var id TopicID
	bad := fmt.Errorf("topic id %.50q is not a UUID such as "+
		"0f8fad5b-d9cb-469f-a165-70867728950e", text)
	if len(text) != 36 || text[8] != '-' || text[13] != '-' || text[18] != '-' ||
		text[23] != '-' {
		return id, bad
	}
	digits := text[:8] + text[9:13] + text[14:18] + text[19:23] + text[24:]
	if _, err := hex.Decode(id[:], []byte(digits)); err != nil {
		return TopicID{}, bad
	}
	return id, nil
}

// PartitionID names one partition of one topic.
type PartitionID struct {
	Topic     TopicID
	Partition int32
}

// String returns TOPIC-PARTITION with the topic as UUID text.
func (id PartitionID) String() string { return fmt.Sprintf("%s-%d", id.Topic, id.Partition) }
