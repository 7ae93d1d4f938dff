package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// connection sends prepared requests over one HTTP/1.1 connection and counts
// what comes back. net/http's client takes more of two shared cores than the
// node does, so a load generator made of it measures itself.
type connection struct {
	conn   net.Conn
	reader *bufio.Reader
	body   []byte // of the last answer
}

func dial(base string) (*connection, error) {
	conn, err := net.Dial("tcp", strings.TrimPrefix(base, "http://"))
	if err != nil {
		return nil, err
	}
	return &connection{conn: conn, reader: bufio.NewReaderSize(conn, 16<<10)}, nil
}

func (c *connection) close() { _ = c.conn.Close() }

// prepare returns a request as it goes over the wire.
func prepare(method, path, media string, body []byte) []byte {
	var text bytes.Buffer
	fmt.Fprintf(&text, "%s %s HTTP/1.1\r\nHost: bench\r\n", method, path)
	if body != nil {
		fmt.Fprintf(&text, "Content-Type: %s\r\nContent-Length: %d\r\n", media, len(body))
	}
	text.WriteString("\r\n")
	text.Write(body)
	return text.Bytes()
}

// do sends a request and reads its answer, which must be 200.
func (c *connection) do(request []byte) error {
	if err := c.conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return err
	}
	if _, err := c.conn.Write(request); err != nil {
		return err
	}
	line, err := c.reader.ReadSlice('\n')
	if err != nil {
		return err
	}
	ok := bytes.HasPrefix(line, []byte("HTTP/1.1 20"))
	first := ""
	if !ok {
		first = string(line)
	}
	length, chunked := -1, false
	for {
		line, err := c.reader.ReadSlice('\n')
		if err != nil {
			return err
		}
		if len(line) <= 2 {
			break
		}
		if value, found := bytes.CutPrefix(line, []byte("Content-Length: ")); found {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				return err
			}
		}
		chunked = chunked || bytes.HasPrefix(line, []byte("Transfer-Encoding: chunked"))
	}
	c.body = c.body[:0]
	switch {
	case chunked:
		err = c.chunks()
	case length < 0:
		err = fmt.Errorf("an answer without a length: %s", first)
	default:
		err = c.read(length)
	}
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("%s: %s", strings.TrimSpace(first), c.body)
	}
	return nil
}

// read adds so many bytes to the body.
func (c *connection) read(length int) error {
	start := len(c.body)
	c.body = slices.Grow(c.body, length)[:start+length]
	_, err := io.ReadFull(c.reader, c.body[start:])
	return err
}

// chunks reads a body in chunks (RFC 9112, section 7.1).
func (c *connection) chunks() error {
	for {
		line, err := c.reader.ReadSlice('\n')
		if err != nil {
			return err
		}
		size, err := strconv.ParseInt(string(bytes.TrimSpace(line)), 16, 32)
		if err != nil {
			return err
		}
		if err := c.read(int(size)); err != nil {
			return err
		}
		if _, err := c.reader.Discard(2); size == 0 || err != nil {
			return err
		}
	}
}

// usage is what a node has used up since its start.
type usage struct {
	cpuSeconds, allocations, bytes float64
	resident                       float64 // bytes now
}

// usage reads it from the node's metrics.
func (n *node) usage() (usage, error) {
	answer, err := http.Get(n.http + "/metrics")
	if err != nil {
		return usage{}, err
	}
	defer answer.Body.Close()
	var u usage
	into := map[string]*float64{
		"process_cpu_seconds_total": &u.cpuSeconds, "go_memstats_mallocs_total": &u.allocations,
		"go_memstats_alloc_bytes_total": &u.bytes, "process_resident_memory_bytes": &u.resident,
	}
	lines := bufio.NewScanner(answer.Body)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), " ")
		if at := into[name]; at != nil {
			if *at, err = strconv.ParseFloat(value, 64); err != nil {
				return usage{}, err
			}
		}
	}
	return u, lines.Err()
}
