package main

import (
	"context"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	sluice "github.com/sluicelog/sluice/clients/go"
	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
)

func newConfigCommand() *cobra.Command {
	config := &cobra.Command{
		Use: "config", Short: "Read and change settings of topics, brokers and the cluster",
	}
	conn := addConnection(config)
	config.AddCommand(
		newConfigGetCommand(conn), newConfigSetCommand(conn), newConfigUnsetCommand(conn),
	)
	return config
}

// resourceFlags say whose settings are meant.
type resourceFlags struct {
	topic   string
	broker  int32
	cluster bool
}

// addResource gives a command the flags of which exactly one is needed.
func addResource(c *cobra.Command) *resourceFlags {
	var r resourceFlags
	flags := c.Flags()
	flags.StringVar(&r.topic, "topic", "", "settings of this `topic`")
	flags.Int32Var(&r.broker, "broker", 0, "settings of the broker with this `id`")
	flags.BoolVar(&r.cluster, "cluster", false, "settings of all brokers")
	c.MarkFlagsOneRequired("topic", "broker", "cluster")
	c.MarkFlagsMutuallyExclusive("topic", "broker", "cluster")
	return &r
}

// resource returns what the flags of c mean.
func (r *resourceFlags) resource(c *cobra.Command) (sluice.ConfigResource, error) {
	switch {
	case c.Flags().Changed("broker"):
		return sluice.BrokerConfigs(r.broker), nil
	case !c.Flags().Changed("topic"):
		return sluice.ClusterConfigs(), nil
	case r.topic == "":
		return sluice.ConfigResource{}, wrongUsage("--topic is empty")
	}
	return sluice.TopicConfigs(r.topic), nil
}

func newConfigGetCommand(conn *connection) *cobra.Command {
	c := &cobra.Command{
		Use:   "get (--topic T | --broker N | --cluster) [NAME]...",
		Short: "Show settings, their values and where those come from",
		Example: "  sluice config get --topic flights\n" +
			"  sluice config get --cluster log.retention.hours",
	}
	flags := addResource(c)
	c.RunE = conn.call(func(
		ctx context.Context, c *cobra.Command, client *sluice.Client, args []string,
	) error {
		resource, err := flags.resource(c)
		if err != nil {
			return err
		}
		entries, err := client.Configs(ctx, resource, args...)
		if err != nil {
			return err
		}
		return conn.writeConfigs(c.OutOrStdout(), entries)
	})
	return c
}

func newConfigSetCommand(conn *connection) *cobra.Command {
	c := &cobra.Command{
		Use:   "set (--topic T | --broker N | --cluster) NAME=VALUE...",
		Short: "Change settings, all or none",
		Example: "  sluice config set --topic flights retention.ms=3600000\n" +
			"  sluice config set --cluster log.retention.ms=86400000",
		Args: takesSome("NAME=VALUE"),
	}
	flags := addResource(c)
	c.RunE = conn.call(func(
		ctx context.Context, c *cobra.Command, client *sluice.Client, args []string,
	) error {
		resource, err := flags.resource(c)
		if err != nil {
			return err
		}
		settings := map[string]string{}
		if err := addSettings(settings, args); err != nil {
			return &usageError{err}
		}
		entries, err := client.AlterConfigs(ctx, resource, settings)
		if err != nil {
			return err
		}
		return conn.writeConfigs(c.OutOrStdout(), named(entries, func(name string) bool {
			_, ok := settings[name]
			return ok
		}))
	})
	return c
}

func newConfigUnsetCommand(conn *connection) *cobra.Command {
	c := &cobra.Command{
		Use:     "unset (--topic T | --broker N | --cluster) NAME...",
		Short:   "Take settings back, so that what applies otherwise does again",
		Example: "  sluice config unset --topic flights retention.ms",
		Args:    takesSome("NAME"),
	}
	flags := addResource(c)
	c.RunE = conn.call(func(
		ctx context.Context, c *cobra.Command, client *sluice.Client, args []string,
	) error {
		resource, err := flags.resource(c)
		if err != nil {
			return err
		}
		entries, err := client.AlterConfigs(ctx, resource, nil, args...)
		if err != nil {
			return err
		}
		return conn.writeConfigs(c.OutOrStdout(), named(entries, func(name string) bool {
			return slices.Contains(args, name)
		}))
	})
	return c
}

// named returns the entries whose names match.
func named(entries []*sluicev1.ConfigEntry, match func(string) bool) []*sluicev1.ConfigEntry {
	return slices.DeleteFunc(entries, func(e *sluicev1.ConfigEntry) bool {
		return !match(e.GetName())
	})
}

// writeConfigs shows settings.
func (c *connection) writeConfigs(w io.Writer, entries []*sluicev1.ConfigEntry) error {
	if c.json() {
		return writeMessages(w, entries)
	}
	t := newTable(w, "NAME", "VALUE", "SOURCE")
	for _, e := range entries {
		t.row(e.GetName(), e.GetValue(), strings.TrimPrefix(e.GetSource().String(),
			"CONFIG_SOURCE_"))
	}
	return t.Flush()
}
