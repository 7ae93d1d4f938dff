package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// writeJSON writes a value as indented JSON and a newline.
func writeJSON(w io.Writer, value any) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(value)
}

// rawMessage returns a message as the HTTP API writes it: snake_case names, and
// fields that are unset left in.
func rawMessage(message proto.Message) (json.RawMessage, error) {
	text, err := protojson.MarshalOptions{
		UseProtoNames: true, EmitDefaultValues: true,
	}.Marshal(message)
	if err != nil {
		return nil, err
	}
	var compact bytes.Buffer // protojson varies its white space on purpose
	if err := json.Compact(&compact, text); err != nil {
		return nil, err
	}
	return compact.Bytes(), nil
}

// writeMessage writes a message as JSON.
func writeMessage(w io.Writer, message proto.Message) error {
	raw, err := rawMessage(message)
	if err != nil {
		return err
	}
	return writeJSON(w, raw)
}

// writeMessages writes messages as a JSON array.
func writeMessages[M proto.Message](w io.Writer, messages []M) error {
	list := make([]json.RawMessage, len(messages))
	for i, message := range messages {
		var err error
		if list[i], err = rawMessage(message); err != nil {
			return err
		}
	}
	return writeJSON(w, list)
}

// table is text in columns.
type table struct{ tabwriter.Writer }

// newTable begins a table with a heading, if there is one.
func newTable(w io.Writer, heading ...string) *table {
	t := &table{}
	t.Init(w, 0, 0, 2, ' ', 0)
	if len(heading) > 0 {
		fmt.Fprintln(t, strings.Join(heading, "\t"))
	}
	return t
}

// row adds a row.
func (t *table) row(cells ...any) {
	texts := make([]string, len(cells))
	for i, cell := range cells {
		texts[i] = fmt.Sprint(cell)
		if texts[i] == "" {
			texts[i] = "-"
		}
	}
	fmt.Fprintln(t, strings.Join(texts, "\t"))
}

// ids writes broker ids as 0,1,2.
func ids(list []int32) string {
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(list), " ", ","), "[]")
}

// optional writes a number that may be absent.
func optional[N int32 | int64](n *N) string {
	if n == nil {
		return "-"
	}
	return fmt.Sprint(*n)
}
