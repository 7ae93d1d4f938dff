package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// node is a node that the run started, and the binary that talks to it.
type node struct {
	binary     string
	grpc, http string
	process    *exec.Cmd
}

// startNode starts a node on free ports and returns when it is ready.
func startNode(ctx context.Context, binary, dir string, flags ...string) (*node, error) {
	n := &node{binary: binary}
	n.process = exec.CommandContext(ctx, binary, append([]string{
		"serve", "--data-dir", dir, "--grpc-listen", "127.0.0.1:0", "--http-listen",
		"127.0.0.1:0", "--registry-listen", "127.0.0.1:0", "--log-level", "warn",
	}, flags...)...)
	n.process.Stderr = os.Stderr
	out, err := n.process.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := n.process.Start(); err != nil {
		return nil, err
	}
	addresses := regexp.MustCompile(`^  (gRPC|HTTP) +(?:http://)?(\S+)$`)
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		switch match := addresses.FindStringSubmatch(lines.Text()); {
		case match != nil && match[1] == "gRPC":
			n.grpc = match[2]
		case match != nil:
			n.http = "http://" + match[2]
			return n, nil
		}
	}
	return nil, errors.Join(errors.New("the node did not start"), n.process.Wait())
}

func (n *node) stop() {
	if err := n.process.Process.Signal(os.Interrupt); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
	}
	if err := n.process.Wait(); err != nil {
		fmt.Fprintln(os.Stderr, "bench: the node ended badly:", err)
	}
}

// sluice runs a command against the node and returns what it printed.
func (n *node) sluice(ctx context.Context, args ...string) ([]byte, error) {
	command := exec.CommandContext(ctx, n.binary, append(args, "--server", n.grpc)...)
	var failure bytes.Buffer
	command.Stderr = &failure
	out, err := command.Output()
	if err != nil {
		return nil, fmt.Errorf("sluice %s: %w: %s", strings.Join(args, " "), err, failure.String())
	}
	return out, nil
}

func (n *node) createTopic(ctx context.Context, topic string) error {
	_, err := n.sluice(ctx, "topic", "create", topic)
	return err
}

// rate runs `sluice bench` and returns its records per second.
func (n *node) rate(ctx context.Context, args ...string) (float64, error) {
	out, err := n.sluice(ctx, append([]string{"bench"}, append(args, "--output", "json")...)...)
	if err != nil {
		return 0, err
	}
	var result struct {
		RecordsPerSecond float64 `json:"records_per_second"`
	}
	return result.RecordsPerSecond, json.Unmarshal(out, &result)
}

func (n *node) produceGRPC(ctx context.Context, recordBytes, count int) (float64, error) {
	return n.rate(ctx, "produce", "--topic", topicName(recordBytes), "--records",
		strconv.Itoa(count), "--record-size", strconv.Itoa(recordBytes),
		"--batch-size", strconv.Itoa(batchBytes))
}

func (n *node) produceHTTP(ctx context.Context, recordBytes, count int) (float64, error) {
	return n.rate(ctx, "produce", "--topic", topicName(recordBytes), "--records",
		strconv.Itoa(count), "--record-size", strconv.Itoa(recordBytes),
		"--batch-size", strconv.Itoa(batchBytes), "--http", n.http)
}

func (n *node) fetchGRPC(ctx context.Context, recordBytes, count int) (float64, error) {
	return n.rate(ctx, "consume", "--topic", topicName(recordBytes), "--records",
		strconv.Itoa(count))
}

// fetchHTTP reads a topic from its beginning, a megabyte a request, and decodes
// what a program would look at.
func (n *node) fetchHTTP(ctx context.Context, recordBytes, count int) (float64, error) {
	read, offset := 0, "0"
	begin := time.Now()
	for read < count {
		url := fmt.Sprintf("%s/v1/topics/%s/partitions/0/records?offset=%s&max_bytes=%d",
			n.http, topicName(recordBytes), offset, 1<<20)
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return 0, err
		}
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			return 0, err
		}
		var page struct {
			Records []struct {
				Value []byte `json:"value"`
			} `json:"records"`
			NextOffset string `json:"next_offset"`
		}
		text, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		if err == nil && answer.StatusCode != http.StatusOK {
			err = fmt.Errorf("%s: %s", answer.Status, text)
		}
		if err == nil {
			err = json.Unmarshal(text, &page)
		}
		if err == nil && len(page.Records) == 0 {
			err = fmt.Errorf("the log ended at %s after %d records", offset, read)
		}
		if err != nil {
			return 0, err
		}
		read += len(page.Records)
		offset = page.NextOffset
	}
	return float64(read) / time.Since(begin).Seconds(), nil
}

// clusterID asks the node for the id of its cluster.
func (n *node) clusterID() (string, error) {
	c, err := dial(n.http)
	if err != nil {
		return "", err
	}
	defer c.close()
	if err := c.do(prepare("GET", "/v1/cluster", "", nil)); err != nil {
		return "", err
	}
	var answer struct {
		ID string `json:"cluster_id"`
	}
	err = json.Unmarshal(c.body, &answer)
	if err == nil && answer.ID == "" {
		err = fmt.Errorf("no id of the cluster in %s", c.body)
	}
	return answer.ID, err
}
