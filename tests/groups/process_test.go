package groups

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	sluice "github.com/sluicelog/sluice/clients/go"
	"github.com/sluicelog/sluice/tests/port"
)

// What the environment says to this binary, run again as a member.
const (
	envMember  = "GROUPS_MEMBER"
	envAddress = "GROUPS_ADDRESS"
)

// becameMember runs as a member where the environment asks for it: it writes a line of JSON for
// each event, until it is told to stop, or killed.
func becameMember() bool {
	name := os.Getenv(envMember)
	if name == "" {
		return false
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	client, err := sluice.Dial(os.Getenv(envAddress))
	if err == nil {
		lines := json.NewEncoder(os.Stdout)
		err = consume(ctx, client, name, func(e event) {
			if lines.Encode(e) != nil {
				os.Exit(3) // nobody listens any more
			}
		})
		err = errors.Join(err, client.Close())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, name+":", err)
		os.Exit(1)
	}
	return true
}

// child is a process that this test started.
type child struct {
	command *exec.Cmd
	read    chan struct{} // closed when all that it wrote has been read
}

// startMember starts a member as a process of its own, which tells the ledger.
func startMember(t *testing.T, address, name string, l *ledger) *child {
	t.Helper()
	c := &child{command: exec.Command(os.Args[0]), read: make(chan struct{})}
	c.command.Env = append(os.Environ(), envMember+"="+name, envAddress+"="+address)
	c.command.Stderr = os.Stderr
	out, err := c.command.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, c.command.Start())
	go func() {
		defer close(c.read)
		lines := bufio.NewReader(out)
		for {
			line, err := lines.ReadBytes('\n')
			if err != nil {
				return // a line that was cut short says nothing
			}
			var e event
			if json.Unmarshal(line, &e) == nil {
				l.take(e)
			}
		}
	}()
	return c
}

// end sends the process a signal and returns once it is gone and all that it said was read.
func (c *child) end(signal os.Signal) error {
	if err := c.command.Process.Signal(signal); err != nil {
		return err
	}
	<-c.read
	return c.command.Wait()
}

// server is a node as a process of its own.
type server struct {
	binary, dir, address string
	command              *exec.Cmd
}

// run starts the node and returns once it says that it serves.
func (s *server) run(t *testing.T) {
	t.Helper()
	s.command = exec.Command(s.binary, "serve", "--data-dir", s.dir,
		"--grpc-listen", s.address, "--http-listen", "", "--registry-listen", "",
		"--set", "group.min.session.timeout.ms=1000",
		"--set", "group.consumer.heartbeat.interval.ms=500", "--log-level", "warn")
	s.command.Stderr = os.Stderr
	out, err := s.command.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, s.command.Start())
	serves := make(chan bool, 1)
	go func() {
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if strings.Contains(lines.Text(), s.address) {
				break
			}
		}
		serves <- lines.Err() == nil
		_, _ = io.Copy(io.Discard, out)
	}()
	select {
	case ok := <-serves:
		require.True(t, ok)
	case <-time.After(time.Minute):
		t.Fatal("the node does not serve")
	}
}

// TestProcessesThatAreKilled is the same with processes: members that are killed, leave and join
// at random, and a node that is killed and started again, while a producer runs. make groups and
// make groups-short run it.
func TestProcessesThatAreKilled(t *testing.T) {
	binary := os.Getenv("GROUPS_SLUICE")
	if binary == "" {
		t.Skip("needs GROUPS_SLUICE, a sluice binary: run make groups")
	}
	rounds, err := strconv.Atoi(os.Getenv("GROUPS_ROUNDS"))
	require.NoError(t, err)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	node := &server{binary: binary, dir: t.TempDir(), address: port.Free(t)}
	node.run(t)
	defer func() {
		assert.NoError(t, node.command.Process.Signal(syscall.SIGTERM))
		assert.NoError(t, node.command.Wait())
	}()
	client, err := sluice.Dial(node.address)
	require.NoError(t, err)
	defer client.Close()
	_, err = client.CreateTopic(t.Context(), sluice.NewTopic{Name: topic, Partitions: partitions})
	require.NoError(t, err)
	l := newLedger()
	members := make([]*child, 3)
	for i := range members {
		members[i] = startMember(t, node.address, fmt.Sprintf("m%d", i), l)
	}
	producing := make(chan error, 1)
	ctx, enough := context.WithCancel(t.Context())
	go func() { producing <- produceUntil(ctx, client, l) }()
	for round := range rounds {
		before := delivered(l)
		progress(t, l, func(_, now int) bool { return now >= before+500 })
		i := random.IntN(len(members))
		name := fmt.Sprintf("m%d.%d", i, round)
		switch random.IntN(4) {
		case 0:
			require.NoError(t, members[i].end(syscall.SIGTERM))
			members[i] = startMember(t, node.address, name, l)
		case 1:
			require.NoError(t, node.command.Process.Kill())
			_ = node.command.Wait() // it was killed
			node.run(t)
		default:
			_ = members[i].end(syscall.SIGKILL) // it was killed
			members[i] = startMember(t, node.address, name, l)
		}
	}
	enough()
	require.NoError(t, <-producing)
	progress(t, l, func(produced, delivered int) bool { return delivered >= produced })
	checkStored(t, client)
	for _, m := range members {
		require.NoError(t, m.end(syscall.SIGTERM))
	}
	require.NoError(t, l.check())
	checkLeft(t, client)
	t.Logf("%d rounds: %d records produced, %d of them came again", rounds, len(l.produced),
		l.again())
}

func delivered(l *ledger) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.delivered)
}

// produceUntil writes flights, over and over, until ctx is done.
func produceUntil(ctx context.Context, client *sluice.Client, l *ledger) error {
	keys, values, err := flights(20_000)
	if err != nil {
		return err
	}
	producer, err := client.NewProducer()
	if err != nil {
		return err
	}
	for first := 0; ctx.Err() == nil; first += 100 {
		// Not faster than about 2,000 a second: there is to be time for what happens.
		err := produce(context.WithoutCancel(ctx), producer, l, keys, values, first, first+100)
		if err != nil {
			return errors.Join(err, producer.Close())
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
		}
	}
	return producer.Close()
}
