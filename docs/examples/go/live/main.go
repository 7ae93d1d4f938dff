// Command live reads a topic as a member of a consumer group over a WebSocket: the
// messages are JSON, one member each, and a commit acknowledges what was worked on.
// Any language that has WebSockets can do the same.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/signal"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"
)

func main() {
	server := flag.String("server", "127.0.0.1:8082", "where a node serves HTTP")
	topic := flag.String("topic", "tower", "a topic")
	group := flag.String("group", "watchers", "the group to be a member of")
	count := flag.Int("count", 0, "stop after so many records (0: at Ctrl-C)")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	err := run(ctx, os.Stdout, *server, *group, *topic, *count)
	if err != nil && ctx.Err() == nil {
		fmt.Fprintln(os.Stderr, "Error:", err)
		os.Exit(1)
	}
}

// message is what the node says: one of its members is there.
type message struct {
	Records *struct {
		Topic      string `json:"topic"`
		Partition  int    `json:"partition"`
		NextOffset string `json:"next_offset"`
		Records    []struct {
			Offset string `json:"offset"`
			Value  []byte `json:"value"` // base64 on the way
		} `json:"records"`
	} `json:"records"`
	Revoking  any `json:"revoking"`
	Committed any `json:"committed"`
	Error     *struct {
		Message string `json:"message"`
	} `json:"error"`
}

// object is a message to the node.
type object = map[string]any

// run prints records, and acknowledges those of each message together.
func run(ctx context.Context, out io.Writer, server, group, topic string, count int) error {
	from := url.URL{
		Scheme: "ws", Host: server, Path: "/v1/groups/" + group + ":consume",
		RawQuery: url.Values{"topic": {topic}, "offset_reset": {"earliest"}}.Encode(),
	}
	conn, _, err := websocket.Dial(ctx, from.String(), nil) //nolint:bodyclose // there is none
	if err != nil {
		return err
	}
	defer conn.CloseNow() //nolint:errcheck // it is closed already but for an error
	conn.SetReadLimit(16 << 20)
	for read := 0; ; {
		var m message
		if err := wsjson.Read(ctx, conn, &m); err != nil {
			return err
		}
		switch {
		case m.Error != nil:
			return fmt.Errorf("the node: %s", m.Error.Message)
		case m.Revoking != nil: // nothing is kept of the partitions
			err = wsjson.Write(ctx, conn, object{"revoked": object{}})
		case m.Records != nil:
			r := m.Records
			for _, record := range r.Records {
				fmt.Fprintf(out, "%s-%d %s: %s\n", r.Topic, r.Partition, record.Offset,
					record.Value)
			}
			read += len(r.Records)
			err = wsjson.Write(ctx, conn, object{"commit": object{"offsets": []object{
				{"topic": r.Topic, "partition": r.Partition, "offset": r.NextOffset},
			}}})
		case m.Committed != nil && count > 0 && read >= count:
			return conn.Close(websocket.StatusNormalClosure, "")
		}
		if err != nil {
			return err
		}
	}
}
