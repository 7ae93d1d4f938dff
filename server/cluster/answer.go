package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/net/http2"
)

// dialOnce connects to a node's gRPC port, waits for a word of the process and
// hangs up.
func dialOnce(ctx context.Context, address string) error {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	return Answers(ctx, conn)
}

// Answers begins HTTP/2 on a new connection and returns nil once the other side
// says or does anything, be it to hang up: its process runs. To be connected does
// not tell, as the kernel does that for a process that is paused.
func Answers(ctx context.Context, conn net.Conn) error {
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	_, err := io.WriteString(conn, http2.ClientPreface)
	if err == nil {
		err = http2.NewFramer(conn, nil).WriteSettings()
	}
	if err == nil {
		_, err = conn.Read(make([]byte, 1))
	}
	if ctx.Err() != nil {
		return fmt.Errorf("waiting for an answer: %w", ctx.Err())
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	return nil
}
