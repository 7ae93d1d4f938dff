// Command sluice runs a node of Sluice and talks to one: topics, records,
// groups, settings and load.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

// What the process exits with.
const (
	exitFailed = 1
	exitUsage  = 2
)

func main() { os.Exit(runProcess()) }

// runProcess runs the command line of the process until a signal asks it to stop,
// and returns the exit code.
func runProcess() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // so that a second signal ends the process at once
	return run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
}

// run runs one command line and returns the exit code. Ending ctx is Ctrl-C.
func run(ctx context.Context, args []string, in io.Reader, out, errOut io.Writer) int {
	root := newRootCommand()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errOut)
	ran, err := root.ExecuteContextC(ctx)
	if err == nil {
		return 0
	}
	fmt.Fprintln(errOut, "Error:", err)
	if _, ok := errors.AsType[*failure](err); ok {
		return exitFailed
	}
	fmt.Fprintf(errOut, "Run '%s --help' for usage.\n", ran.CommandPath())
	return exitUsage
}

// failure is an error of a command that was used rightly.
type failure struct{ error }

// Unwrap returns the error itself.
func (f *failure) Unwrap() error { return f.error }

// usageError is an error of how a command was used, found after its flags were
// parsed.
type usageError struct{ error }

// Unwrap returns the error itself.
func (u *usageError) Unwrap() error { return u.error }

// wrongUsage returns an error that exits with 2.
func wrongUsage(format string, args ...any) error {
	return &usageError{fmt.Errorf(format, args...)}
}

func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "sluice",
		Short: "An event log that anything can talk to",
		Long: "Sluice is an event log: Kafka's topics, partitions, offsets and groups behind\n" +
			"HTTP/JSON and gRPC.",
		Example: "  sluice serve\n" +
			"  sluice topic create flights --partitions 6\n" +
			"  sluice produce flights < flights.jsonl\n" +
			"  sluice consume flights --exit-at-end",
		Version:       version,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetVersionTemplate("{{.Name}} {{.Version}}\n")
	root.AddCommand(
		newServeCommand(), newTopicCommand(), newProduceCommand(), newConsumeCommand(),
		newGroupCommand(), newConfigCommand(), newClusterCommand(), newBackupCommand(),
		newSchemaCommand(),
		newStorageCommand(), newGatewayCommand(), newBenchCommand(),
	)
	root.CompletionOptions.HiddenDefaultCmd = true
	prepare(root)
	return root
}

// prepare makes every command below c report errors as run expects them: what
// cobra finds wrong is wrong usage, and what a command returns is not.
func prepare(c *cobra.Command) {
	for _, child := range c.Commands() {
		prepare(child)
	}
	if c.HasSubCommands() && c.RunE == nil {
		c.RunE = func(c *cobra.Command, args []string) error { return needsCommand(c, args) }
		c.Args = cobra.ArbitraryArgs
		return
	}
	work := c.RunE
	c.RunE = func(c *cobra.Command, args []string) error {
		err := work(c, args)
		var usage *usageError
		if err == nil || errors.As(err, &usage) {
			return err
		}
		return &failure{err}
	}
}

// needsCommand is what a command does that only has others below it.
func needsCommand(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		if c.HasParent() {
			return fmt.Errorf("%s needs a command: %s", c.CommandPath(), commandNames(c))
		}
		return c.Help()
	}
	return fmt.Errorf("unknown command %q for %s, which has: %s", args[0], c.CommandPath(),
		commandNames(c))
}

// takes returns a check that a command is given exactly the arguments named.
func takes(names ...string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) == len(names) {
			return nil
		}
		return fmt.Errorf("%s takes %s, got %d arguments", c.CommandPath(),
			strings.Join(names, " and "), len(args))
	}
}

// takesSome returns a check that a command is given one argument or more.
func takesSome(name string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) > 0 {
			return nil
		}
		return fmt.Errorf("%s takes one %s or more, got none", c.CommandPath(), name)
	}
}

// commandNames lists the commands below c.
func commandNames(c *cobra.Command) string {
	var names []string
	for _, child := range c.Commands() {
		if child.IsAvailableCommand() {
			names = append(names, child.Name())
		}
	}
	return strings.Join(names, ", ")
}
