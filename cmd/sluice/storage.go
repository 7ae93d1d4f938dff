package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/sluicelog/sluice/storage"
)

func newStorageCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "storage",
		Short: "Check and show a data directory, with its node stopped",
	}
	output := "text"
	c.PersistentFlags().Var(&choice{&output, []string{"text", "json"}}, "output",
		"`text|json`: how to answer")
	c.AddCommand(newStorageCheckCommand(&output), newStorageDumpCommand(&output),
		newStorageRetryCommand(&output))
	return c
}

func newStorageCheckCommand(output *string) *cobra.Command {
	return &cobra.Command{
		Use:   "check DIR",
		Short: "Read everything in a data directory and report damage",
		Long: "Reads the files and all records of a data directory (the --data-dir of a node or\n" +
			"the log in it), and reports what a start would find: the verdict, each file, and\n" +
			"each partition with its offsets. It changes nothing; what a start would change is\n" +
			"copied to TMPDIR first. Exits with 1 if anything is damaged or missing.",
		Example: "  sluice storage check /var/lib/sluice\n" +
			"  sluice storage check sluice-data --output json | jq .verdict",
		Args: takes("DIR"),
		RunE: func(c *cobra.Command, args []string) error {
			dir, err := storageDir(args[0])
			if err != nil {
				return err
			}
			report, err := storage.Check(c.Context(), dir)
			if err != nil {
				return err
			}
			write := writeCheck
			if *output == "json" {
				write = func(w io.Writer, r *storage.CheckReport) error { return writeJSON(w, r) }
			}
			if err := write(c.OutOrStdout(), report); err != nil {
				return err
			}
			if report.Damaged() {
				return fmt.Errorf("%s is damaged; docs/guide/storage.md says what to do", dir)
			}
			return nil
		},
	}
}

// writeCheck writes a report as text.
func writeCheck(w io.Writer, r *storage.CheckReport) error {
	facts := newTable(w)
	facts.row("directory", r.Dir)
	facts.row("cluster", r.ClusterID)
	facts.row("node", r.NodeID)
	facts.row("format", r.Format)
	verdict := string(r.Verdict)
	if verdict == "" {
		verdict = "none"
	}
	facts.row("verdict", verdict+": "+verdictText(r))
	facts.row("last commit", r.Commit)
	if r.FailedStarts > 0 {
		facts.row("failed starts", fmt.Sprintf("%d in a row; at 3 the node stays down until "+
			"'sluice storage retry'", r.FailedStarts))
	}
	for _, reason := range r.Reasons {
		facts.row("damage", reason)
	}
	if err := facts.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(w)
	files := newTable(w, "FILE", "SIZE", "STATE")
	for _, f := range r.Files {
		files.row(f.Name, humanize.IBytes(uint64(f.Bytes)), state(f.Problem))
	}
	if err := files.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(w)
	parts := newTable(w,
		"PARTITION", "START", "END", "EPOCH", "BATCHES", "SIZE", "DAMAGED", "STATE")
	for _, p := range r.Partitions {
		parts.row(p.ID, p.Start, p.End, p.LeaderEpoch, p.Batches, humanize.IBytes(uint64(p.Bytes)),
			p.Damaged, state(p.Problem))
	}
	return parts.Flush()
}

// state writes that something reads well, or what does not.
func state(problem string) string {
	if problem == "" {
		return "ok"
	}
	return problem
}

func newStorageDumpCommand(output *string) *cobra.Command {
	var (
		topic     string
		partition int32
		from      int64
		request   storage.DumpRequest
	)
	c := &cobra.Command{
		Use:   "dump DIR",
		Short: "Show the batches in a data directory",
		Long: "Shows the headers of the stored batches, and with --records the sizes and times\n" +
			"of their records. Where the log does not read on, it says so and goes on behind\n" +
			"it. With --output json each batch is one line.",
		Example: "  sluice storage dump sluice-data --limit 5\n" +
			"  sluice storage dump sluice-data --topic-id 0f8fad5b-d9cb-469f-a165-70867728950e " +
			"--partition 0 --from 1000",
		Args: takes("DIR"),
	}
	flags := c.Flags()
	flags.StringVar(&topic, "topic-id", "", "only this topic, by the `id` of 'topic describe'")
	flags.Int32Var(&partition, "partition", 0, "only this `number`, with --topic-id")
	flags.Int64Var(&from, "from", 0, "begin with the batch that holds this `offset`")
	flags.IntVar(&request.Limit, "limit", 0, "at most this `number` of batches of a partition")
	flags.BoolVar(&request.Records, "records", false, "show the records of each batch")
	c.RunE = func(c *cobra.Command, args []string) error {
		if from < 0 || request.Limit < 0 {
			return wrongUsage("--from and --limit must not be negative")
		}
		request.From = storage.Offset(from)
		if topic == "" && c.Flags().Changed("partition") {
			return wrongUsage("--partition needs --topic-id")
		}
		if topic != "" {
			id, err := storage.ParseTopicID(topic)
			if err != nil {
				return wrongUsage("--topic-id: %w", err)
			}
			request.Partitions = []storage.PartitionID{{Topic: id, Partition: partition}}
		}
		dir, err := storageDir(args[0])
		if err != nil {
			return err
		}
		return dump(c.Context(), c.OutOrStdout(), dir, request, *output == "json")
	}
	return c
}

// dump writes batches as they come.
func dump(
	ctx context.Context, w io.Writer, dir string, request storage.DumpRequest, lines bool,
) error {
	encoder := json.NewEncoder(w)
	return storage.Dump(ctx, dir, request, func(b storage.DumpedBatch) error {
		if lines {
			return encoder.Encode(b)
		}
		return writeBatch(w, &b)
	})
}

// writeBatch writes a batch as a line, and its records as one each.
func writeBatch(w io.Writer, b *storage.DumpedBatch) error {
	if b.Problem != "" && b.Bytes == 0 {
		_, err := fmt.Fprintf(w, "%s %d DAMAGED: %s\n", b.Partition, b.BaseOffset, b.Problem)
		return err
	}
	newest := "-" // compaction may leave a batch without records
	if b.RecordCount > 0 {
		newest = b.MaxTime.Format("2006-01-02T15:04:05.000Z07:00")
	}
	_, err := fmt.Fprintf(w, "%s %d-%d epoch %d, %s, %d bytes, %s, newest %s", b.Partition,
		b.BaseOffset, b.LastOffset, b.LeaderEpoch, count(b.RecordCount, "record"), b.Bytes,
		b.Attributes, newest)
	if b.ProducerID >= 0 {
		_, err = fmt.Fprintf(w, ", producer %d epoch %d sequence %d", b.ProducerID,
			b.ProducerEpoch, b.BaseSequence)
	}
	if b.Problem != "" {
		_, err = fmt.Fprintf(w, ", DAMAGED: %s", b.Problem)
	}
	_, lineErr := fmt.Fprintln(w)
	for _, r := range b.Records {
		_, recordErr := fmt.Fprintf(w, "  %d %s key %d bytes, value %d bytes, %s\n", r.Offset,
			r.Time.Format("2006-01-02T15:04:05.000Z07:00"), r.KeyBytes, r.ValueBytes,
			count(r.HeaderCount, "header"))
		err = errors.Join(err, recordErr)
	}
	return errors.Join(err, lineErr)
}

func newStorageRetryCommand(output *string) *cobra.Command {
	return &cobra.Command{
		Use:   "retry DIR",
		Short: "Let a node start again that stays down after failed starts",
		Long: "After three starts that did not come to their end a node stays down and says\n" +
			"why. When the cause is gone, this lets the next start try again.",
		Example: "  sluice storage retry /var/lib/sluice",
		Args:    takes("DIR"),
		RunE: func(c *cobra.Command, args []string) error {
			dir, err := storageDir(args[0])
			if err != nil {
				return err
			}
			failed, reason, err := storage.ClearAttempts(dir)
			if err != nil {
				return err
			}
			if *output == "json" {
				return writeJSON(c.OutOrStdout(), map[string]any{
					"failed_starts": failed, "reason": reason,
				})
			}
			if failed == 0 {
				_, err = fmt.Fprintf(c.OutOrStdout(), "no start in %s failed\n", dir)
				return err
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "forgot %s, the last one because: %s\n",
				count(failed, "failed start"), reason)
			return err
		},
	}
}
