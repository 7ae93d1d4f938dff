package gateway

import (
	"slices"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
)

// v3ReassignmentData is a partition whose replicas are on the move.
type v3ReassignmentData struct {
	v3Head
	TopicName        string  `json:"topic_name"`
	PartitionID      int32   `json:"partition_id"`
	AddingReplicas   []int32 `json:"adding_replicas"`
	RemovingReplicas []int32 `json:"removing_replicas"`
	Replicas         v3Link  `json:"replicas"`
}

// reassignment returns the move of a partition: nil where its replicas stay. One
// that only changes their order is over at once, and never seen.
func (c *v3Call) reassignment(topic string, id int32, adding, removing []int32) any {
	if len(adding) == 0 && len(removing) == 0 {
		return nil
	}
	return v3ReassignmentData{
		v3Head: c.head("KafkaReassignment",
			c.url("/topics", topic, "/partitions", id, "/reassignment"),
			c.name("topic", topic, "partition", id)+"/reassignment"),
		TopicName: topic, PartitionID: id,
		AddingReplicas:   append([]int32{}, adding...), // [] where there is none
		RemovingReplicas: append([]int32{}, removing...),
		Replicas:         c.link("/topics", topic, "/partitions", id, "/replicas"),
	}
}

func v3Reassignment(c *v3Call) (any, error) {
	topic, p, err := c.partition()
	if err != nil {
		return nil, err
	}
	move := c.reassignment(topic, p.GetPartition(), p.GetAddingIds(), p.GetRemovingIds())
	if move == nil {
		return nil, v3NotFound("No reassignment of partition %s-%d is going on.", topic,
			p.GetPartition())
	}
	return move, nil
}

func v3TopicReassignments(c *v3Call) (any, error) {
	t, err := c.topicOf(c.p["topic"])
	if err != nil {
		return nil, err
	}
	list := []any{}
	for _, p := range t.GetPartitions() {
		list = append(list, c.reassignment(t.GetTopic(), p.GetPartition(), p.GetAddingIds(),
			p.GetRemovingIds()))
	}
	list = slices.DeleteFunc(list, func(move any) bool { return move == nil })
	return c.list("KafkaReassignment", c.url("/topics", t.GetTopic(),
		"/partitions/-/reassignment"), list), nil
}

func v3Reassignments(c *v3Call) (any, error) {
	list := []any{}
	request := &sluicev1.ListReassignmentsRequest{}
	for {
		page, err := c.g.clusters.ListReassignments(c.ctx, request)
		if err != nil {
			return nil, err
		}
		for _, m := range page.GetReassignments() {
			list = append(list, c.reassignment(m.GetTopic(), m.GetPartition(), m.GetAddingIds(),
				m.GetRemovingIds()))
		}
		if request.PageToken = page.GetNextPageToken(); request.PageToken == "" {
			break
		}
	}
	list = slices.DeleteFunc(list, func(move any) bool { return move == nil })
	return c.list("KafkaReassignment", c.url("/topics/-/partitions/-/reassignment"), list), nil
}
