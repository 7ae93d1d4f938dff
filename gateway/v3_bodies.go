package gateway

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/internal/jsonscan"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
)

// The tables of the bodies of the v3 surface.
var (
	v3TopicFields = fieldsOf("topic_name", "partitions_count", "replication_factor",
		"replicas_assignments", "configs", "validate_only")
	v3SettingFields    = fieldsOf("name", "value")
	v3CountFields      = fieldsOf("partitions_count")
	v3ValueFields      = fieldsOf("value")
	v3AlterFields      = fieldsOf("data", "validate_only")
	v3ChangeFields     = fieldsOf("name", "value", "operation")
	v3TopicAlterFields = fieldsOf("topic_name", "configs")
	v3ReplicasFields   = fieldsOf("partition_id", "broker_ids")
)

const (
	// v3SettingCountMax bounds the settings of one request.
	v3SettingCountMax = 1000
	// v3AssignedCountMax bounds the partitions of an assignment, and the
	// replicas of each.
	v3AssignedCountMax = 10_000
)

// whole reads a body that must hold an object and nothing else.
func whole(text []byte, read func(s *jsonscan.Scanner) error) error {
	if isEmpty(text) {
		return errNoPayload
	}
	s := jsonscan.New(text)
	if err := read(s); err != nil {
		return err
	}
	return s.End()
}

// decodeV3Topic reads the body of a request to create a topic.
func decodeV3Topic(text []byte) (*sluicev1.CreateTopicRequest, error) {
	request := &sluicev1.CreateTopicRequest{}
	named := false
	err := whole(text, func(s *jsonscan.Scanner) error {
		return v3TopicFields.read(s, func(field uint) (err error) {
			switch field {
			case 0:
				var name []byte
				name, err = s.Text()
				request.Topic, named = string(name), true
			case 1:
				request.PartitionCount, err = countOf(s)
			case 2:
				request.ReplicationFactor, err = countOf(s)
			case 3:
				request.Assignments, err = replicasOf(s)
			case 4:
				request.Configs, err = settingsOf(s)
			case 5:
				request.ValidateOnly, err = s.Bool()
			}
			return err
		})
	})
	if err == nil && !named {
		err = missing(v3TopicFields.name(0))
	}
	return request, err
}

// countOf reads a number of at least 1: left out, it is the broker's default.
func countOf(s *jsonscan.Scanner) (int32, error) {
	value, err := s.Int(32)
	if err == nil && value < 1 {
		err = fmt.Errorf("is %d, at least 1", value)
	}
	return int32(value), err
}

// settingsOf reads [{"name":"cleanup.policy","value":"compact"}]. A value of
// null is the default.
func settingsOf(s *jsonscan.Scanner) (map[string]string, error) {
	settings := map[string]string{}
	return settings, eachOf(s, v3SettingCountMax, func() error {
		var name, value *string
		err := v3SettingFields.read(s, func(field uint) (err error) {
			if field == 0 {
				name, err = textOf(s)
				return err
			}
			word, err := wordOf(s)
			value = &word
			return err
		})
		switch {
		case err != nil:
			return err
		case name == nil:
			return missing("name")
		case value == nil:
			return nil
		}
		if _, twice := settings[*name]; twice {
			return within("name", fmt.Errorf("%q is there twice", clip(*name)))
		}
		settings[*name] = *value
		return nil
	})
}

// replicasOf reads the replicas of partitions: {"0":[1,2]}, as the server takes
// them, and the forms of its document, [{"0":[1,2]}] and
// [{"partition_id":0,"broker_ids":[1,2]}].
func replicasOf(s *jsonscan.Scanner) ([]*sluicev1.ReplicaAssignment, error) {
	found := map[int32]*sluicev1.ReplicaAssignment{}
	var err error
	if s.Kind() == jsonscan.Object {
		err = replicasByName(s, found)
	} else {
		err = eachOf(s, v3AssignedCountMax, func() error { return replicasByName(s, found) })
	}
	if err != nil {
		return nil, err
	}
	list := make([]*sluicev1.ReplicaAssignment, len(found))
	for partition, replicas := range found {
		if int(partition) >= len(list) {
			return nil, fmt.Errorf("partition %d is there, and not all before it", partition)
		}
		list[partition] = replicas
	}
	return list, nil
}

// replicasByName reads one object of replicas.
func replicasByName(
	s *jsonscan.Scanner, found map[int32]*sluicev1.ReplicaAssignment,
) error {
	if err := s.EnterObject(); err != nil {
		return err
	}
	var number *int32
	var brokers *sluicev1.ReplicaAssignment
	for {
		name, more, err := s.Key()
		if err != nil {
			return err
		}
		if !more {
			break
		}
		key := string(name)
		switch key {
		case "partition_id":
			number, err = int32Of(s)
		case "broker_ids":
			brokers, err = brokersOf(s)
		default:
			var partition int64
			if partition, err = strconv.ParseInt(key, 10, 32); err != nil || partition < 0 {
				return fmt.Errorf("%q is no partition", clip(key))
			}
			var replicas *sluicev1.ReplicaAssignment
			if replicas, err = brokersOf(s); err == nil {
				err = assignTo(found, int32(partition), replicas)
			}
		}
		if err != nil {
			return within(clip(key), err)
		}
	}
	switch {
	case number == nil && brokers == nil:
		return nil
	case number == nil:
		return missing(v3ReplicasFields.name(0))
	case brokers == nil:
		return missing(v3ReplicasFields.name(1))
	case *number < 0:
		return fmt.Errorf("%d is no partition", *number)
	}
	return assignTo(found, *number, brokers)
}

func assignTo(
	found map[int32]*sluicev1.ReplicaAssignment, partition int32,
	replicas *sluicev1.ReplicaAssignment,
) error {
	if found[partition] != nil {
		return fmt.Errorf("partition %d is there twice", partition)
	}
	if len(found) == v3AssignedCountMax {
		return fault.RequestTooLarge.With("limit", v3AssignedCountMax, "setting",
			"partitions of an assignment")
	}
	found[partition] = replicas
	return nil
}

func brokersOf(s *jsonscan.Scanner) (*sluicev1.ReplicaAssignment, error) {
	replicas := &sluicev1.ReplicaAssignment{}
	return replicas, eachOf(s, v3AssignedCountMax, func() error {
		id, err := s.Int(32)
		replicas.BrokerIds = append(replicas.BrokerIds, int32(id))
		return err
	})
}

// decodeV3Count reads {"partitions_count":6}.
func decodeV3Count(text []byte) (count int32, err error) {
	err = whole(text, func(s *jsonscan.Scanner) error {
		return v3CountFields.read(s, func(uint) (err error) {
			count, err = countOf(s)
			return err
		})
	})
	if err == nil && count == 0 {
		err = payloadError("partitions_count is required.")
	}
	return count, err
}

// decodeV3Value reads {"value":"compact"}.
func decodeV3Value(text []byte) (value string, err error) {
	given := false
	err = whole(text, func(s *jsonscan.Scanner) error {
		return v3ValueFields.read(s, func(uint) (err error) {
			value, err = wordOf(s)
			given = true
			return err
		})
	})
	if err == nil && !given {
		err = payloadError("value is required; DELETE resets a config.")
	}
	return value, err
}

// v3Change is a change of one setting.
type v3Change struct {
	name, value string
	reset       bool
}

// v3TopicChange is a change of a topic's settings.
type v3TopicChange struct {
	name    string
	changes []v3Change
}

// decodeV3Alter reads the body of a change of several settings.
func decodeV3Alter(text []byte) (changes []v3Change, validateOnly bool, err error) {
	err = whole(text, func(s *jsonscan.Scanner) error {
		return v3AlterFields.read(s, func(field uint) (err error) {
			if field == 1 {
				validateOnly, err = s.Bool()
				return err
			}
			changes, err = changesOf(s)
			return err
		})
	})
	if err == nil && len(changes) == 0 {
		err = payloadError("data must not be empty.")
	}
	return changes, validateOnly, err
}

func changesOf(s *jsonscan.Scanner) (changes []v3Change, err error) {
	seen := map[string]bool{}
	return changes, eachOf(s, v3SettingCountMax, func() error {
		change, err := changeOf(s)
		if err == nil && seen[change.name] {
			err = within("name", fmt.Errorf("%q is there twice", clip(change.name)))
		}
		seen[change.name] = true
		changes = append(changes, change)
		return err
	})
}

func changeOf(s *jsonscan.Scanner) (change v3Change, err error) {
	valued := false
	err = v3ChangeFields.read(s, func(field uint) error {
		word, err := wordOf(s)
		switch {
		case err != nil:
			return err
		case field == 0:
			change.name = word
		case field == 1:
			change.value, valued = word, true
		case word == "DELETE":
			change.reset = true
		case word != "SET":
			return fmt.Errorf("%q is none of SET, DELETE", clip(word))
		}
		return nil
	})
	switch {
	case err != nil:
	case change.name == "":
		err = missing("name")
	case !valued && !change.reset:
		err = within("value", errors.New("is required to SET"))
	}
	return change, err
}

// decodeV3AlterTopics reads the body of a change of several topics' settings.
func decodeV3AlterTopics(text []byte) (topics []v3TopicChange, validateOnly bool, err error) {
	err = whole(text, func(s *jsonscan.Scanner) error {
		return v3AlterFields.read(s, func(field uint) (err error) {
			if field == 1 {
				validateOnly, err = s.Bool()
				return err
			}
			return eachOf(s, v3SettingCountMax, func() error {
				var topic v3TopicChange
				err := v3TopicAlterFields.read(s, func(field uint) (err error) {
					if field == 0 {
						topic.name, err = wordOf(s)
						return err
					}
					topic.changes, err = changesOf(s)
					return err
				})
				switch {
				case err != nil:
				case topic.name == "":
					err = missing("topic_name")
				case len(topic.changes) == 0:
					err = missing("configs")
				}
				topics = append(topics, topic)
				return err
			})
		})
	})
	if err == nil && len(topics) == 0 {
		err = payloadError("data must not be empty.")
	}
	return topics, validateOnly, err
}
