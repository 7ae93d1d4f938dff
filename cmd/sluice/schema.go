package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/sluicelog/sluice/clients/go/serde"
)

// schemaBytesMax bounds the schema that is read from a file: what a registry
// takes, and some white space.
const schemaBytesMax = 4 << 20

// registryFlags are how a command reaches a schema registry.
type registryFlags struct {
	conn *connection
	urls string
}

// addRegistry gives a command, and those below it, the flag --registry. The TLS
// flags of conn hold for it too.
func addRegistry(c *cobra.Command, conn *connection) *registryFlags {
	r := &registryFlags{conn: conn}
	urls, ok := os.LookupEnv(envName("registry"))
	if !ok {
		urls = "http://127.0.0.1:8081"
	}
	c.PersistentFlags().StringVar(&r.urls, "registry", urls,
		"`URL` of the schema registry, or several with commas between; http://user:password@host "+
			"sends credentials (env SLUICE_REGISTRY)")
	return r
}

// dial returns a client of the registry. It needs no Close.
func (r *registryFlags) dial() (*serde.Registry, error) {
	tlsConfig, err := r.conn.tlsConfig()
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: tlsConfig}
	registry, err := serde.NewRegistry(strings.Split(r.urls, ","),
		serde.WithHTTPClient(&http.Client{Transport: transport}))
	if err != nil {
		return nil, wrongUsage("--registry: %w", err)
	}
	return registry, nil
}

// call runs a task with a client of the registry.
func (r *registryFlags) call(
	do func(ctx context.Context, c *cobra.Command, registry *serde.Registry, args []string) error,
) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, args []string) error {
		registry, err := r.dial()
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(c.Context(), callTimeout)
		defer cancel()
		return r.explain(do(ctx, c, registry, args))
	}
}

// explain says what to do about a registry that cannot be reached.
func (*registryFlags) explain(err error) error {
	if !errors.Is(err, serde.ErrUnreachable) {
		return err
	}
	return fmt.Errorf("no schema registry answers (start one with 'sluice serve', or name "+
		"another with --registry): %w", err)
}

func newSchemaCommand() *cobra.Command {
	schema := &cobra.Command{Use: "schema", Short: "Register, show, check and delete schemas"}
	r := addRegistry(schema, addConnection(schema))
	schema.AddCommand(
		newSchemaRegisterCommand(r), newSchemaGetCommand(r), newSchemaListCommand(r),
		newSchemaCheckCommand(r), newSchemaDeleteCommand(r),
	)
	return schema
}

// schemaInput is a schema that a command reads.
type schemaInput struct {
	file       string
	references []string
}

func addSchemaInput(c *cobra.Command) *schemaInput {
	in := &schemaInput{file: "-"}
	c.Flags().StringVar(&in.file, "file", "-", "read the schema from this `file`; - is the input")
	c.Flags().StringArrayVar(&in.references, "reference", nil,
		"a type that the schema uses, as `NAME=SUBJECT:VERSION`, repeatable")
	return in
}

// read returns the schema, checked to be one.
func (in *schemaInput) read(
	ctx context.Context, c *cobra.Command, registry *serde.Registry,
) (serde.Schema, error) {
	var s serde.Schema
	for _, text := range in.references {
		name, where, _ := strings.Cut(text, "=")
		colon := strings.LastIndexByte(where, ':')
		version, err := schemaVersion(where[colon+1:])
		if name == "" || colon < 1 || err != nil {
			return s, wrongUsage("--reference is %q, want NAME=SUBJECT:VERSION", text)
		}
		s.References = append(s.References,
			serde.Reference{Name: name, Subject: where[:colon], Version: version})
	}
	source := c.InOrStdin()
	if in.file != "-" {
		file, err := os.Open(in.file)
		if err != nil {
			return s, fmt.Errorf("reading --file: %w", err)
		}
		defer file.Close()
		source = file
	}
	var err error
	if s.Text, err = readSchema(source); err != nil {
		return s, err
	}
	references, err := registry.References(ctx, s)
	if err != nil {
		return s, err
	}
	_, err = serde.NewCodec(s.Text, references, serde.Limits{})
	return s, err
}

// readSchema reads the text of a schema.
func readSchema(source io.Reader) (string, error) {
	text, err := io.ReadAll(io.LimitReader(source, schemaBytesMax+1))
	switch {
	case err != nil:
		return "", fmt.Errorf("reading the schema: %w", err)
	case len(text) > schemaBytesMax:
		return "", fmt.Errorf("the schema has more than %d bytes", schemaBytesMax)
	case len(bytes.TrimSpace(text)) == 0:
		return "", errors.New("the schema is empty")
	}
	return string(text), nil
}

// schemaVersion reads a version: a number from 1, or latest.
func schemaVersion(text string) (int, error) {
	if strings.EqualFold(text, "latest") || text == "-1" {
		return serde.LatestVersion, nil
	}
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil || n < 1 {
		return 0, fmt.Errorf("%q is no version: it is a number from 1, or latest", text)
	}
	return int(n), nil
}

// versionFlag is a flag that is a version.
type versionFlag int

// String returns the number, or latest.
func (v *versionFlag) String() string {
	if *v == serde.LatestVersion {
		return "latest"
	}
	return strconv.Itoa(int(*v))
}

// Set takes a number from 1, or latest.
func (v *versionFlag) Set(text string) error {
	n, err := schemaVersion(text)
	*v = versionFlag(n)
	return err
}

// Type names the type in the help.
func (v *versionFlag) Type() string { return "version" }

func newSchemaRegisterCommand(r *registryFlags) *cobra.Command {
	c := &cobra.Command{
		Use:   "register SUBJECT",
		Short: "Register a schema under a subject, and print its id",
		Long: "Registers the Avro schema on the standard input, or in --file, under a subject,\n" +
			"and prints its id. A schema that is there already keeps its id. The subject of a\n" +
			"topic's values is TOPIC-value, that of its keys TOPIC-key.",
		Example: "  sluice schema register flights-value --file flight.avsc\n" +
			`  echo '"string"' | sluice schema register flights-key`,
		Args: takes("SUBJECT"),
	}
	in := addSchemaInput(c)
	normalize := c.Flags().Bool("normalize", false,
		"make schemas that differ only in how they are written the same")
	c.RunE = r.call(func(
		ctx context.Context, c *cobra.Command, registry *serde.Registry, args []string,
	) error {
		s, err := in.read(ctx, c, registry)
		if err != nil {
			return err
		}
		id, err := registry.Register(ctx, args[0], s, *normalize)
		if err != nil {
			return err
		}
		if r.conn.json() {
			return writeJSON(c.OutOrStdout(), map[string]any{"subject": args[0], "id": id})
		}
		fmt.Fprintf(c.OutOrStdout(), "%s has the schema with id %d\n", args[0], id)
		return nil
	})
	return c
}

func newSchemaGetCommand(r *registryFlags) *cobra.Command {
	c := &cobra.Command{
		Use:   "get SUBJECT",
		Short: "Print a schema",
		Long: "Prints the latest schema of a subject, or another --version of it, or, with --id\n" +
			"and without a subject, the schema with an id.",
		Example: "  sluice schema get flights-value\n" +
			"  sluice schema get flights-value --version 1 --output json\n" +
			"  sluice schema get --id 7",
		Args: cobra.MaximumNArgs(1),
	}
	version := versionFlag(serde.LatestVersion)
	c.Flags().Var(&version, "version", "this `version` of the subject, from 1")
	id := c.Flags().Int32("id", 0, "the schema with this `id`, from 1")
	c.RunE = r.call(func(
		ctx context.Context, c *cobra.Command, registry *serde.Registry, args []string,
	) error {
		byID := c.Flags().Changed("id")
		switch {
		case byID == (len(args) == 1):
			return wrongUsage("%s takes a SUBJECT, or --id", c.CommandPath())
		case byID && *id < 1:
			return wrongUsage("--id is %d, want 1 or more", *id)
		case byID:
			s, err := registry.SchemaByID(ctx, serde.ID(*id))
			if err != nil {
				return err
			}
			return r.writeSchema(c.OutOrStdout(), s.Text, struct {
				ID serde.ID `json:"id"`
				serde.Schema
			}{serde.ID(*id), s})
		}
		s, err := registry.Version(ctx, args[0], int(version))
		if err != nil {
			return err
		}
		return r.writeSchema(c.OutOrStdout(), s.Text, s)
	})
	return c
}

// writeSchema writes a schema, so that it can be registered again, or all that
// is known of it.
func (r *registryFlags) writeSchema(w io.Writer, text string, all any) error {
	if r.conn.json() {
		return writeJSON(w, all)
	}
	if json.Valid([]byte(text)) {
		var indented bytes.Buffer
		if err := json.Indent(&indented, []byte(text), "", "  "); err != nil {
			return err
		}
		text = indented.String()
	}
	_, err := fmt.Fprintln(w, text)
	return err
}

// subjectRow is what list says of a subject.
type subjectRow struct {
	Subject string   `json:"subject"`
	Version int      `json:"version"`
	ID      serde.ID `json:"id"`
}

func newSchemaListCommand(r *registryFlags) *cobra.Command {
	c := &cobra.Command{
		Use:   "list [SUBJECT]",
		Short: "List subjects with their latest version, or a subject's versions",
		Example: "  sluice schema list\n" +
			"  sluice schema list --prefix flights\n" +
			"  sluice schema list flights-value",
		Args: cobra.MaximumNArgs(1),
	}
	prefix := c.Flags().String("prefix", "", "only subjects that start with this `text`")
	c.RunE = r.call(func(
		ctx context.Context, c *cobra.Command, registry *serde.Registry, args []string,
	) error {
		var rows []subjectRow
		if len(args) == 1 {
			versions, err := registry.Versions(ctx, args[0])
			if err != nil {
				return err
			}
			for _, v := range versions {
				rows = append(rows, subjectRow{Subject: args[0], Version: v})
			}
		} else {
			subjects, err := registry.Subjects(ctx, *prefix)
			if err != nil {
				return err
			}
			for _, subject := range subjects {
				rows = append(rows, subjectRow{Subject: subject, Version: serde.LatestVersion})
			}
		}
		rows, err := completeRows(ctx, registry, rows)
		if err != nil {
			return err
		}
		if r.conn.json() {
			return writeJSON(c.OutOrStdout(), rows)
		}
		t := newTable(c.OutOrStdout(), "SUBJECT", "VERSION", "ID")
		for _, row := range rows {
			t.row(row.Subject, row.Version, row.ID)
		}
		return t.Flush()
	})
	return c
}

// completeRows finds the ids. A subject that was deleted meanwhile is left out.
func completeRows(
	ctx context.Context, registry *serde.Registry, rows []subjectRow,
) ([]subjectRow, error) {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(16)
	for i := range rows {
		row := &rows[i]
		group.Go(func() error {
			s, err := registry.Version(ctx, row.Subject, row.Version)
			if errors.Is(err, serde.ErrNotFound) {
				return nil
			}
			row.Version, row.ID = s.Version, s.ID
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	found := make([]subjectRow, 0, len(rows))
	for _, row := range rows {
		if row.ID > 0 {
			found = append(found, row)
		}
	}
	return found, nil
}

func newSchemaCheckCommand(r *registryFlags) *cobra.Command {
	c := &cobra.Command{
		Use:   "check SUBJECT",
		Short: "Say whether a schema could be registered, and why not",
		Long: "Asks whether the schema on the standard input, or in --file, is compatible with\n" +
			"the latest of a subject, or another --version, by the subject's compatibility\n" +
			"level. Nothing is registered. It exits with 1 if the schema is not compatible.",
		Example: "  sluice schema check flights-value --file flight.avsc",
		Args:    takes("SUBJECT"),
	}
	in := addSchemaInput(c)
	version := versionFlag(serde.LatestVersion)
	c.Flags().Var(&version, "version", "compare with this `version` of the subject")
	c.RunE = r.call(func(
		ctx context.Context, c *cobra.Command, registry *serde.Registry, args []string,
	) error {
		s, err := in.read(ctx, c, registry)
		if err != nil {
			return err
		}
		verdict, err := registry.Compatible(ctx, args[0], int(version), s)
		if err != nil {
			return err
		}
		if r.conn.json() {
			if err := writeJSON(c.OutOrStdout(), verdict); err != nil {
				return err
			}
		} else if verdict.Compatible {
			fmt.Fprintf(c.OutOrStdout(), "compatible with %s\n", args[0])
		}
		if verdict.Compatible {
			return nil
		}
		why := ""
		if !r.conn.json() && len(verdict.Messages) > 0 {
			why = ":\n  " + strings.Join(verdict.Messages, "\n  ")
		}
		return fmt.Errorf("the schema is not compatible with %s%s", args[0], why)
	})
	return c
}

func newSchemaDeleteCommand(r *registryFlags) *cobra.Command {
	c := &cobra.Command{
		Use:   "delete SUBJECT",
		Short: "Delete a subject, or a version of it",
		Long: "Deletes a subject, or one --version of it: it is listed no more, and what was\n" +
			"written with its schemas can still be read. With --permanent, what was deleted\n" +
			"before is forgotten.",
		Example: "  sluice schema delete flights-value\n" +
			"  sluice schema delete flights-value --permanent\n" +
			"  sluice schema delete flights-value --version 2",
		Args: takes("SUBJECT"),
	}
	var version versionFlag
	c.Flags().Var(&version, "version", "only this `version` of the subject")
	c.Flags().Lookup("version").DefValue = ""
	permanent := c.Flags().Bool("permanent", false, "forget what was deleted before")
	c.RunE = r.call(func(
		ctx context.Context, c *cobra.Command, registry *serde.Registry, args []string,
	) error {
		var deleted []int
		var err error
		if c.Flags().Changed("version") {
			deleted = []int{0}
			deleted[0], err = registry.DeleteVersion(ctx, args[0], int(version), *permanent)
		} else {
			deleted, err = registry.DeleteSubject(ctx, args[0], *permanent)
		}
		if err != nil {
			return err
		}
		if r.conn.json() {
			return writeJSON(c.OutOrStdout(),
				map[string]any{"subject": args[0], "deleted": deleted})
		}
		texts := make([]string, len(deleted))
		for i, v := range deleted {
			texts[i] = strconv.Itoa(v)
		}
		fmt.Fprintf(c.OutOrStdout(), "deleted %s: version %s\n", args[0], strings.Join(texts, ", "))
		return nil
	})
	return c
}
