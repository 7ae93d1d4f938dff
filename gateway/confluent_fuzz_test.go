package gateway

import (
	"bytes"
	"encoding/json"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// FuzzConsumerBodies reads the bodies about consumers: whatever they are, the
// outcome is a request that keeps its bounds or an error of the caller.
func FuzzConsumerBodies(f *testing.F) {
	for _, seed := range []string{
		`{"name":"a","format":"json","auto.commit.enable":"false","fetch.min.bytes":-1}`,
		`{"topics":["a"]}`, `{"topic_pattern":"a.*"}`, `null`, ``, `{}`,
		`{"partitions":[{"topic":"t","partition":0}]}`,
		`{"offsets":[{"topic":"t","partition":0,"offset":9223372036854775807,"metadata":"m"}]}`,
		`{"timestamps":[{"topic":"t","partition":0,"timestamp":"2026-01-01T00:00:00Z"}]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		decoders := map[string]func() error{
			"consumer": func() error {
				request, err := decodeConsumer(text)
				require.True(t, err != nil || len(request.name) <= consumerNameBytesMax)
				return err
			},
			"subscription": func() error {
				topics, pattern, err := decodeSubscription(text)
				require.True(t, err != nil || (len(topics) > 0) != (pattern != ""))
				return err
			},
			"partitions": func() error { _, err := decodePartitions(text); return err },
			"positions": func() error {
				places, err := decodePositions(text)
				require.True(t, err != nil || len(places) > 0)
				return err
			},
			"commit": func() error {
				offsets, err := decodeCommit(text)
				for _, o := range offsets {
					require.True(t, err != nil || o.GetOffset() > 0)
				}
				return err
			},
		}
		for name, decode := range decoders {
			if err := decode(); err != nil {
				code, _, _ := describe(confluentBodyError(err))
				require.Contains(t, []int{400, 409, 413, 422}, code, name)
				continue
			}
			require.True(t, isEmpty(text) || json.Valid(text), name)
		}
	})
}

// FuzzEmbedded reads and writes keys and values: JSON is kept but for its white
// space, text wholly, and what is written is JSON whatever is stored.
func FuzzEmbedded(f *testing.F) {
	for _, seed := range []string{
		`{"a": [1e400, "x \" y"], "b":null}`, `"\ud83d\ude00"`, `00`, "\xff", ``, ` 1 `,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, datum []byte) {
		body := append(append([]byte(`{"records":[{"value":`), datum...), `}]}`...)
		records, err := decodeConfluent(body, jsonFormat)
		if err == nil && len(records) == 1 && records[0].Value != nil {
			var compact bytes.Buffer
			require.NoError(t, json.Compact(&compact, datum))
			require.Equal(t, compact.String(), string(records[0].Value))
		}
		for _, format := range []*embedded{binaryFormat, jsonFormat, textFormat} {
			text, err := format.datum(t.Context(), nil, nil, datum)
			if err != nil {
				require.ErrorIs(t, err, errUndecodable)
				continue
			}
			require.True(t, json.Valid(text), "%s: %q", format.name, text)
			require.True(t, utf8.Valid(text))
		}
	})
}
