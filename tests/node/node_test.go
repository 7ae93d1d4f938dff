package node_test

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/tests/node"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestANodeServesAndKeepsItsDataOverARestart(t *testing.T) {
	n := node.Start(t)
	topics := sluicev1.NewTopicServiceClient(n.Conn())
	_, err := topics.CreateTopic(t.Context(), &sluicev1.CreateTopicRequest{Topic: "t"})
	require.NoError(t, err)
	log := sluicev1.NewLogServiceClient(n.Dial())
	wrote, err := log.Produce(t.Context(), &sluicev1.ProduceRequest{
		Topic: "t", Records: []*sluicev1.ProduceRecord{{Value: []byte("v")}},
	})
	require.NoError(t, err)
	require.EqualValues(t, 0, wrote.GetResults()[0].GetOffset())

	n = n.Restart()
	log = sluicev1.NewLogServiceClient(n.Conn())
	read, err := log.Fetch(t.Context(), &sluicev1.FetchRequest{Topic: "t"})
	require.NoError(t, err)
	require.Len(t, read.GetRecords(), 1)
	require.Equal(t, "v", string(read.GetRecords()[0].GetValue()))
	require.NotEmpty(t, n.Address())
}

// TestALogThatIsGoneIsTold takes the log away from a node of a cluster that goes on
// knowing its topics, as a disk does that is not mounted.
func TestALogThatIsGoneIsTold(t *testing.T) {
	var log bytes.Buffer
	n := node.Start(t, node.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
	topics := sluicev1.NewTopicServiceClient(n.Conn())
	_, err := topics.CreateTopic(t.Context(), &sluicev1.CreateTopicRequest{Topic: "t"})
	require.NoError(t, err)
	n.Stop()
	const told = "the log of a node that had replicas is new"
	require.NotContains(t, log.String(), told)
	require.NoError(t, os.RemoveAll(filepath.Join(n.Dir, "log")))
	n = n.Restart()
	n.Stop()
	require.Contains(t, log.String(), told)
}
