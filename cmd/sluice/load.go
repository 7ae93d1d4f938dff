package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"
)

// envPrefix begins the environment variable of every flag: --data-dir is
// SLUICE_DATA_DIR.
const envPrefix = "SLUICE_"

// settingsFlag is the flag of broker settings, key=value, which add up over the
// sources instead of replacing each other.
const settingsFlag = "set"

// load gives each flag that was not typed its value from the environment, or
// else from the YAML file that --config names: flags over environment over file
// over default. It returns the broker settings of --set, merged in the same
// order. A name that is no flag, in the file, is an error that names it.
func load(flags *pflag.FlagSet, lookupEnv func(string) (string, bool)) (map[string]string, error) {
	fromEnv := map[string]string{}
	flags.VisitAll(func(f *pflag.Flag) {
		if value, ok := lookupEnv(envName(f.Name)); ok {
			fromEnv[f.Name] = value
		}
	})
	path := flags.Lookup("config").Value.String()
	if path == "" {
		path = fromEnv["config"]
	}
	file := map[string][]string{}
	if path != "" {
		var err error
		if file, err = readConfig(path, flags); err != nil {
			return nil, err
		}
	}
	settings := map[string]string{}
	if err := addSettings(settings, file[settingsFlag]); err != nil {
		return nil, fmt.Errorf("%s: set: %w", path, err)
	}
	if err := addSettings(settings, splitSettings(fromEnv[settingsFlag])); err != nil {
		return nil, fmt.Errorf("%s: %w", envName(settingsFlag), err)
	}
	typed, err := flags.GetStringArray(settingsFlag)
	if err != nil {
		return nil, err
	}
	if err := addSettings(settings, typed); err != nil {
		return nil, fmt.Errorf("--set: %w", err)
	}
	return settings, fillFlags(flags, path, file, fromEnv)
}

// fillFlags sets the flags that were not typed.
func fillFlags(
	flags *pflag.FlagSet, path string, file map[string][]string, env map[string]string,
) error {
	var failures []error
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Changed || f.Name == settingsFlag {
			return
		}
		if value, ok := env[f.Name]; ok {
			if err := flags.Set(f.Name, value); err != nil {
				failures = append(failures, fmt.Errorf("%s: %w", envName(f.Name), err))
			}
			return
		}
		if values, ok := file[f.Name]; ok {
			if err := flags.Set(f.Name, strings.Join(values, ",")); err != nil {
				failures = append(failures, fmt.Errorf("%s: %s: %w", path, f.Name, err))
			}
		}
	})
	return errors.Join(failures...)
}

// envName returns the environment variable of a flag.
func envName(flag string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// configBytesMax bounds the configuration file.
const configBytesMax = 1 << 20

// readConfig reads a YAML mapping of flag names to values. `set` is a mapping
// of its own, or a list of key=value.
func readConfig(path string, flags *pflag.FlagSet) (map[string][]string, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading --config: %w", err)
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, configBytesMax+1))
	if err != nil {
		return nil, fmt.Errorf("reading --config: %w", err)
	}
	if len(text) > configBytesMax {
		return nil, fmt.Errorf("%s: larger than %d bytes", path, configBytesMax)
	}
	var root yaml.Node
	if err := yaml.Unmarshal(text, &root); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(root.Content) == 0 {
		return map[string][]string{}, nil
	}
	top := root.Content[0]
	if top.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("%s:%d: want a mapping of settings", path, top.Line)
	}
	values := map[string][]string{}
	for i := 0; i < len(top.Content); i += 2 {
		key, value := top.Content[i], top.Content[i+1]
		name := key.Value
		if flag := flags.Lookup(name); flag == nil || name == "config" || name == "help" {
			return nil, fmt.Errorf("%s:%d: unknown setting %q", path, key.Line, name)
		}
		if _, twice := values[name]; twice {
			return nil, fmt.Errorf("%s:%d: %q occurs twice", path, key.Line, name)
		}
		if values[name], err = configValues(name, value); err != nil {
			return nil, fmt.Errorf("%s:%d: %s: %w", path, value.Line, name, err)
		}
	}
	return values, nil
}

// configValues flattens the value of one name: a scalar, a list of scalars, or
// for `set` a mapping.
func configValues(name string, node *yaml.Node) ([]string, error) {
	switch node.Kind {
	case yaml.ScalarNode:
		if node.Tag == "!!null" {
			return []string{""}, nil
		}
		return []string{node.Value}, nil
	case yaml.SequenceNode:
		var values []string
		for _, item := range node.Content {
			if item.Kind != yaml.ScalarNode {
				return nil, errors.New("want a list of plain values")
			}
			values = append(values, item.Value)
		}
		return values, nil
	case yaml.MappingNode:
		if name != settingsFlag {
			return nil, errors.New("want a plain value or a list")
		}
		var values []string
		for i := 0; i < len(node.Content); i += 2 {
			if node.Content[i+1].Kind != yaml.ScalarNode {
				return nil, fmt.Errorf("%s: want a plain value", node.Content[i].Value)
			}
			values = append(values, node.Content[i].Value+"="+node.Content[i+1].Value)
		}
		return values, nil
	}
	return nil, errors.New("want a plain value or a list")
}

// splitSettings cuts the value of SLUICE_SET at the commas that begin another
// key=value, so that cleanup.policy=compact,delete stays whole.
func splitSettings(text string) []string {
	var settings []string
	for piece := range strings.SplitSeq(text, ",") {
		if strings.TrimSpace(piece) == "" {
			continue
		}
		if !strings.Contains(piece, "=") && len(settings) > 0 {
			settings[len(settings)-1] += "," + piece
			continue
		}
		settings = append(settings, strings.TrimSpace(piece))
	}
	return settings
}

// addSettings adds key=value pairs to settings, over what is there.
func addSettings(settings map[string]string, pairs []string) error {
	for _, pair := range pairs {
		name, value, ok := strings.Cut(pair, "=")
		name = strings.TrimSpace(name)
		if !ok || name == "" {
			return fmt.Errorf("%q is not key=value", pair)
		}
		settings[name] = strings.TrimSpace(value)
	}
	return nil
}
