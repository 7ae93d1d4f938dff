package main

import (
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	sluice "github.com/sluicelog/sluice/clients/go"
)

// newElectCommand returns the command that chooses leaders.
func newElectCommand(conn *connection) *cobra.Command {
	var unclean bool
	var broker int32
	c := &cobra.Command{
		Use:   "elect-leaders [TOPIC [PARTITION…]]",
		Short: "Give partitions their preferred leaders",
		Long: "Give partitions their preferred leaders, the first of their replicas: those of\n" +
			"the topic, or of all topics. With --unclean, make a broker the leader of one\n" +
			"partition although it may lack acknowledged records, which are then lost for\n" +
			"good; only where no broker is alive that has them all.",
		Example: "  sluice cluster elect-leaders\n" +
			"  sluice cluster elect-leaders flights 0 1\n" +
			"  sluice cluster elect-leaders flights 0 --unclean --broker 2",
		Args: cobra.ArbitraryArgs,
	}
	c.Flags().BoolVar(&unclean, "unclean", false, "accept the loss of acknowledged records")
	c.Flags().Int32Var(&broker, "broker", -1, "with --unclean, the `broker` that is to lead")
	c.RunE = conn.call(func(
		ctx context.Context, c *cobra.Command, client *sluice.Client, args []string,
	) error {
		topic := ""
		var partitions []int32
		for i, arg := range args {
			if i == 0 {
				topic = arg
				continue
			}
			n, err := strconv.ParseInt(arg, 10, 32)
			if err != nil || n < 0 {
				return wrongUsage("%q is no partition", arg)
			}
			partitions = append(partitions, int32(n))
		}
		if unclean != (broker >= 0) || unclean && len(partitions) != 1 {
			return wrongUsage("--unclean takes a TOPIC, one PARTITION and --broker")
		}
		changed := 1
		var err error
		if unclean {
			err = client.ElectUnclean(ctx, topic, partitions[0], broker)
		} else {
			changed, err = client.ElectPreferred(ctx, topic, partitions...)
		}
		if err != nil {
			return err
		}
		if conn.json() {
			return writeJSON(c.OutOrStdout(), map[string]int{"changed_count": changed})
		}
		_, err = fmt.Fprintf(c.OutOrStdout(), "%s got another leader\n",
			count(changed, "partition"))
		return err
	})
	return c
}
