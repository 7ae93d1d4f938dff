package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// loadedFlags runs load over arguments, environment and a configuration file.
func loadedFlags(
	t *testing.T, args []string, env map[string]string, file string,
) (*pflag.FlagSet, map[string]string, error) {
	t.Helper()
	flags := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	flags.String("config", "", "")
	flags.String("data-dir", "./sluice-data", "")
	flags.Int32("node-id", 0, "")
	flags.StringSlice("etcd-endpoints", nil, "")
	flags.StringArray(settingsFlag, nil, "")
	if file != "" {
		path := filepath.Join(t.TempDir(), "sluice.yaml")
		require.NoError(t, os.WriteFile(path, []byte(file), 0o600))
		args = append(args, "--config", path)
	}
	require.NoError(t, flags.Parse(args))
	settings, err := load(flags, func(name string) (string, bool) {
		value, ok := env[name]
		return value, ok
	})
	return flags, settings, err
}

func TestFlagsWinOverEnvironmentOverFileOverDefault(t *testing.T) {
	file := "data-dir: from-file\nnode-id: 3\n"
	env := map[string]string{"SLUICE_DATA_DIR": "from-env"}
	tests := map[string]struct {
		args      []string
		env       map[string]string
		file      string
		dir, node string
	}{
		"default": {nil, nil, "", "./sluice-data", "0"},
		"file":    {nil, nil, file, "from-file", "3"},
		"env":     {nil, env, file, "from-env", "3"},
		"flag":    {[]string{"--data-dir", "typed"}, env, file, "typed", "3"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			flags, _, err := loadedFlags(t, test.args, test.env, test.file)
			require.NoError(t, err)
			assert.Equal(t, test.dir, flags.Lookup("data-dir").Value.String())
			assert.Equal(t, test.node, flags.Lookup("node-id").Value.String())
		})
	}
}

func TestSettingsAddUpOverTheSources(t *testing.T) {
	_, settings, err := loadedFlags(t, []string{"--set", "num.partitions=3"},
		map[string]string{"SLUICE_SET": "log.cleanup.policy=compact,delete,num.partitions=2"},
		"set:\n  log.retention.hours: 24\n  num.partitions: 1\n")
	require.NoError(t, err)
	assert.Equal(t, map[string]string{
		"log.retention.hours": "24",
		"log.cleanup.policy":  "compact,delete",
		"num.partitions":      "3",
	}, settings)
}

func TestTheConfigFileNamesEverySetting(t *testing.T) {
	flags, settings, err := loadedFlags(t, nil, nil,
		"etcd-endpoints: [a:1, b:2]\nset: [a=1, b=2]\n")
	require.NoError(t, err)
	assert.Equal(t, "[a:1,b:2]", flags.Lookup("etcd-endpoints").Value.String())
	assert.Equal(t, map[string]string{"a": "1", "b": "2"}, settings)
}

func TestBadConfigurationNamesItsPlace(t *testing.T) {
	tests := map[string]struct {
		args []string
		env  map[string]string
		file string
		want []string
	}{
		"unknown key": {
			file: "data-dir: x\ndata-dri: y\n",
			want: []string{`sluice.yaml:2: unknown setting "data-dri"`},
		},
		"key twice":  {file: "node-id: 1\nnode-id: 2\n", want: []string{"node-id"}},
		"wrong type": {file: "node-id: many\n", want: []string{"node-id", "many"}},
		"nested":     {file: "node-id: {a: 1}\n", want: []string{"sluice.yaml:1: node-id"}},
		"no mapping": {file: "- a\n", want: []string{"want a mapping"}},
		"no yaml":    {file: "a: [\n", want: []string{"sluice.yaml"}},
		"too large":  {file: "#" + strings.Repeat("x", 1<<20), want: []string{"larger than"}},
		"env": {
			env:  map[string]string{"SLUICE_NODE_ID": "x"},
			want: []string{"SLUICE_NODE_ID"},
		},
		"env set": {
			env:  map[string]string{"SLUICE_SET": "x"},
			want: []string{"SLUICE_SET", "key=value"},
		},
		"flag set":    {args: []string{"--set", "=3"}, want: []string{"--set", "key=value"}},
		"missing":     {args: []string{"--config", "nowhere.yaml"}, want: []string{"nowhere.yaml"}},
		"config keys": {file: "config: other.yaml\n", want: []string{"unknown setting"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, _, err := loadedFlags(t, test.args, test.env, test.file)
			for _, want := range test.want {
				assert.ErrorContains(t, err, want)
			}
		})
	}
}
