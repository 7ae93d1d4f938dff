package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	sluice "github.com/sluicelog/sluice/clients/go"
)

// callTimeout bounds the calls of a command that doesn't read or write records.
const callTimeout = 30 * time.Second

// connection is how a command reaches a node, and how it answers.
type connection struct {
	server string
	output string

	tls           bool
	tlsCA         string
	tlsCert       string
	tlsKey        string
	tlsServerName string
}

// addConnection gives a command, and those below it, the flags that all
// commands have that talk to a node.
func addConnection(c *cobra.Command) *connection {
	conn := &connection{output: "text"}
	server, ok := os.LookupEnv(envName("server"))
	if !ok {
		server = "127.0.0.1:9092"
	}
	flags := c.PersistentFlags()
	flags.StringVar(&conn.server, "server", server,
		"`host:port` where a node serves gRPC (env SLUICE_SERVER)")
	flags.Var(&choice{&conn.output, []string{"text", "json"}}, "output",
		"`text|json`: how to answer")
	flags.BoolVar(&conn.tls, "tls", false, "encrypt, and trust the system's roots")
	flags.StringVar(&conn.tlsCA, "tls-ca", "", "encrypt, and trust the roots in this PEM `file`")
	flags.StringVar(&conn.tlsCert, "tls-cert", "",
		"encrypt, and show the certificate in this PEM `file`")
	flags.StringVar(&conn.tlsKey, "tls-key", "", "the PEM `file` with the key of --tls-cert")
	flags.StringVar(&conn.tlsServerName, "tls-server-name", "",
		"encrypt, and expect this `name` in the server's certificate")
	return conn
}

// dial returns a client, which the caller closes.
func (c *connection) dial() (*sluice.Client, error) {
	if c.server == "" {
		return nil, wrongUsage("--server is empty, want host:port")
	}
	if strings.HasPrefix(c.server, "http://") || strings.HasPrefix(c.server, "https://") {
		return nil, wrongUsage("--server is %q, want host:port of gRPC, such as 127.0.0.1:9092",
			c.server)
	}
	var options []sluice.DialOption
	if c.encrypted() {
		config, err := c.tlsConfig()
		if err != nil {
			return nil, err
		}
		options = append(options, sluice.WithTLS(config))
	}
	return sluice.Dial(c.server, options...)
}

// encrypted reports whether any flag asks for TLS.
func (c *connection) encrypted() bool {
	return c.tls || c.tlsCA != "" || c.tlsCert != "" || c.tlsKey != "" || c.tlsServerName != ""
}

// tlsConfig reads the files that the flags name.
func (c *connection) tlsConfig() (*tls.Config, error) {
	config := &tls.Config{ServerName: c.tlsServerName, MinVersion: tls.VersionTLS12}
	if c.tlsCA != "" {
		pem, err := os.ReadFile(c.tlsCA)
		if err != nil {
			return nil, fmt.Errorf("reading --tls-ca: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("--tls-ca: %s holds no PEM certificate", c.tlsCA)
		}
	}
	if (c.tlsCert == "") != (c.tlsKey == "") {
		return nil, wrongUsage("--tls-cert and --tls-key go together")
	}
	if c.tlsCert != "" {
		pair, err := tls.LoadX509KeyPair(c.tlsCert, c.tlsKey)
		if err != nil {
			return nil, fmt.Errorf("reading --tls-cert and --tls-key: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

// task is what a command does with a client.
type task func(ctx context.Context, c *cobra.Command, client *sluice.Client, args []string) error

// with runs a task with a client.
func (c *connection) with(do task) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		client, err := c.dial()
		if err != nil {
			return err
		}
		return errors.Join(c.explain(do(cmd.Context(), cmd, client, args)), client.Close())
	}
}

// call runs a task of calls that are short.
func (c *connection) call(do task) func(*cobra.Command, []string) error {
	return c.with(func(
		ctx context.Context, cmd *cobra.Command, client *sluice.Client, args []string,
	) error {
		ctx, cancel := context.WithTimeout(ctx, callTimeout)
		defer cancel()
		return do(ctx, cmd, client, args)
	})
}

// explain says what to do about a node that cannot be reached. A node that answers may
// say the same of another one.
func (c *connection) explain(err error) error {
	if err != nil && strings.Contains(err.Error(), "unexpected HTTP status code") {
		return fmt.Errorf("%s does not speak gRPC: --server is the address that "+
			"'sluice serve' shows behind gRPC, port 9092 if it was not told otherwise", c.server)
	}
	if !errors.Is(err, sluice.ErrBrokerNotAvailable) ||
		!strings.Contains(err.Error(), "connection error") { // as gRPC says
		return err
	}
	return fmt.Errorf("no node answers at %s (start one with 'sluice serve', or name another "+
		"with --server): %w", c.server, err)
}

// json reports whether to answer in JSON.
func (c *connection) json() bool { return c.output == "json" }

// choice is a flag that is one of a few words.
type choice struct {
	value   *string
	allowed []string
}

// String returns the value.
func (c *choice) String() string {
	if c.value == nil {
		return ""
	}
	return *c.value
}

// Set takes a value, if it is one of those allowed.
func (c *choice) Set(text string) error {
	if !slices.Contains(c.allowed, text) {
		return fmt.Errorf("want %s", strings.Join(c.allowed, ", "))
	}
	*c.value = text
	return nil
}

// Type names the type in the help.
func (c *choice) Type() string { return "word" }

// byteCount is a flag that is a number of bytes, such as 16384 or 64KiB.
type byteCount int64

// String returns the number.
func (b *byteCount) String() string { return fmt.Sprint(int64(*b)) }

// Set takes a positive number, with a unit or without.
func (b *byteCount) Set(text string) error {
	size, err := humanize.ParseBytes(text)
	if err != nil || size == 0 || size > 1<<40 {
		return errors.New("want a number of bytes such as 16384 or 64KiB, at least 1")
	}
	*b = byteCount(size)
	return nil
}

// Type names the type in the help.
func (b *byteCount) Type() string { return "bytes" }
