package sluice_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	sluice "github.com/sluicelog/sluice/clients/go"
	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
)

func ExampleClient_CreateTopic() {
	client, stop := exampleClient("flights")
	defer stop()
	ctx := context.Background()
	created, err := client.CreateTopic(ctx, sluice.NewTopic{
		Name: "trains", Partitions: 2, Configs: map[string]string{"retention.ms": "60000"},
	})
	check(err)
	fmt.Fprintln(os.Stdout, created.GetTopic(), created.GetPartitionCount())
	grown, err := client.AddPartitions(ctx, "trains", 3)
	check(err)
	fmt.Fprintln(os.Stdout, grown.GetTopic(), grown.GetPartitionCount())
	topics, err := client.Topics(ctx, false)
	check(err)
	for _, topic := range topics {
		fmt.Fprintln(os.Stdout, "there is", topic.GetTopic())
	}
	check(client.DeleteTopic(ctx, "trains"))

	for _, bad := range []sluice.NewTopic{
		{Name: "flights"}, {Name: "a b"}, {Name: "c", Configs: map[string]string{"x": "y"}},
	} {
		_, err := client.CreateTopic(ctx, bad)
		fmt.Fprintln(os.Stdout, errors.Is(err, sluice.ErrTopicAlreadyExists),
			errors.Is(err, sluice.ErrInvalidTopic), errors.Is(err, sluice.ErrInvalidConfig))
	}
	// Output:
	// trains 2
	// trains 3
	// there is flights
	// there is trains
	// true false false
	// false true false
	// false false true
}

func ExampleClient_Trim() {
	client, stop := exampleClient("flights")
	defer stop()
	produceValues(client, "flights", "a", "b", "c")
	before := int64(2)
	trimmed, err := client.Trim(context.Background(), "flights",
		[]*sluicev1.TrimOffset{{Partition: 0, BeforeOffset: &before}})
	check(err)
	fmt.Fprintln(os.Stdout, "the log starts at", trimmed[0].GetLogStartOffset())
	first, err := client.Offset(context.Background(), "flights", 0, sluice.Beginning())
	check(err)
	fmt.Fprintln(os.Stdout, first)
	// Output:
	// the log starts at 2
	// 2
}

func ExampleClient_AlterConfigs() {
	client, stop := exampleClient("flights")
	defer stop()
	ctx := context.Background()
	//nolint:staticcheck // the type is what is shown
	var resources []sluice.ConfigResource = []sluice.ConfigResource{
		sluice.ClusterConfigs(), sluice.BrokerConfigs(0),
	}
	for _, of := range resources {
		settings, err := client.Configs(ctx, of, "log.retention.ms")
		check(err)
		fmt.Fprintln(os.Stdout, settings[0].GetName(), settings[0].GetValue())
	}
	_, err := client.AlterConfigs(ctx, sluice.TopicConfigs("flights"),
		map[string]string{"retention.ms": "60000"}, "cleanup.policy")
	check(err)
	settings, err := client.Configs(ctx, sluice.TopicConfigs("flights"), "retention.ms")
	check(err)
	fmt.Fprintln(os.Stdout, settings[0].GetName(), settings[0].GetValue())
	// Output:
	// log.retention.ms 604800000
	// log.retention.ms 604800000
	// retention.ms 60000
}

func ExampleClient_DescribeGroup() {
	client, stop := exampleClient("flights")
	defer stop()
	produceValues(client, "flights", "a", "b", "c")
	ctx := context.Background()
	results, err := client.CommitOffsets(ctx, "board",
		[]*sluicev1.CommittedOffset{{Topic: "flights", Offset: 1}})
	check(err)
	fmt.Fprintln(os.Stdout, "stored:", results[0].GetError() == nil)

	groups, err := client.Groups(ctx, sluicev1.GroupState_GROUP_STATE_EMPTY)
	check(err)
	group, err := client.Group(ctx, groups[0].GetGroup())
	check(err)
	fmt.Fprintln(os.Stdout, group.GetGroup(), "has", group.GetMemberCount(), "members")
	described, err := client.DescribeGroup(ctx, "board")
	check(err)
	fmt.Fprintln(os.Stdout, "lag:", described.GetPartitions()[0].GetLag())

	for _, reset := range []sluice.GroupReset{
		sluice.ResetTo(sluice.End()), sluice.ResetBy(-2), sluice.ResetIntoRange(),
	} {
		moved, err := client.ResetGroup(ctx, "board", reset, false,
			sluice.TopicPartition{Topic: "flights", Partition: -1})
		check(err)
		fmt.Fprintln(os.Stdout, moved[0].GetPreviousOffset(), "to", moved[0].GetOffset())
	}
	deleted, err := client.DeleteGroupOffsets(ctx, "board",
		sluice.TopicPartition{Topic: "flights", Partition: 0})
	check(err)
	fmt.Fprintln(os.Stdout, "deleted:", len(deleted))
	err = client.DeleteGroup(ctx, "nobody")
	fmt.Fprintln(os.Stdout, errors.Is(err, sluice.ErrGroupIDNotFound),
		errors.Is(err, sluice.ErrNonEmptyGroup),
		errors.Is(err, sluice.ErrGroupSubscribedToTopic))
	// Output:
	// stored: true
	// board has 0 members
	// lag: 2
	// 1 to 3
	// 3 to 1
	// 1 to 1
	// deleted: 1
	// true false false
}

// What operators do with partitions and with the nodes that keep the metadata. A cluster of one
// node has nothing to move, and says so.
func ExampleClient_Reassign() {
	client, stop := exampleClient("flights")
	defer stop()
	ctx := context.Background()
	_, err := client.Reassign(ctx, sluice.Reassignment{
		Topic: "flights", Partition: 0, Replicas: []int32{7},
	})
	fmt.Fprintln(os.Stdout, "to a broker that there is not:", err != nil)
	_, err = client.MoveAway(ctx, 7, true)
	fmt.Fprintln(os.Stdout, "away from it:", err != nil)
	moves, err := client.Reassignments(ctx)
	check(err)
	fmt.Fprintln(os.Stdout, "under way:", len(moves))

	_, err = client.ElectPreferred(ctx, "flights", 0)
	fmt.Fprintln(os.Stdout, "led by the preferred already:", err != nil)
	err = client.ElectUnclean(ctx, "flights", 0, 7)
	fmt.Fprintln(os.Stdout, "by force:", err != nil)

	members, err := client.Quorum(ctx)
	fmt.Fprintln(os.Stdout, "a quorum of its own:", err == nil && len(members) == 1)
	_, err = client.JoinQuorum(ctx, 7, "127.0.0.1:1", false)
	fmt.Fprintln(os.Stdout, "joined by nobody:", err != nil)
	fmt.Fprintln(os.Stdout, "left by nobody:", client.LeaveQuorum(ctx, 7) != nil)

	info, snapshot, err := client.Backup(ctx)
	check(err)
	defer snapshot.Close()
	size, err := io.Copy(io.Discard, snapshot)
	check(err)
	fmt.Fprintln(os.Stdout, "backed up:", info.GetMetadataVersion() > 0 && size > 0)
	// Output:
	// to a broker that there is not: true
	// away from it: true
	// under way: 0
	// led by the preferred already: true
	// by force: true
	// a quorum of its own: true
	// joined by nobody: true
	// left by nobody: true
	// backed up: true
}
