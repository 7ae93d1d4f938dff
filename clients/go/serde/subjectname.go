package serde

import "fmt"

// SubjectNames says under which subject the schema of a topic's keys or values
// is registered. Record is the full name of the schema's record.
type SubjectNames func(topic string, key bool, record string) (string, error)

// TopicName is one subject for a topic's values, TOPIC-value, and one for its
// keys, TOPIC-key: all records of a topic evolve together. It is the default.
func TopicName(topic string, key bool, _ string) (string, error) {
	if key {
		return topic + "-key", nil
	}
	return topic + "-value", nil
}

// RecordName is a subject for a record, whatever the topic: topics may hold
// several, and those of one name evolve together everywhere.
func RecordName(_ string, _ bool, record string) (string, error) {
	if record == "" {
		return "", fmt.Errorf("%w: only a record, an enum or a fixed has a name for a subject",
			ErrSchema)
	}
	return record, nil
}

// TopicRecordName is a subject for a record in a topic, TOPIC-RECORD: topics may
// hold several, each on its own.
func TopicRecordName(topic string, key bool, record string) (string, error) {
	name, err := RecordName(topic, key, record)
	return topic + "-" + name, err
}
