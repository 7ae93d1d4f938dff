package gateway

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
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
		request := &sluicev1.ProduceRequest{}
		err := decodeConfluent(body, jsonFormat, request, &recordReader{})
		records := request.GetRecords()
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

// FuzzObjects cuts streams into objects: what comes out is what encoding/json's
// decoder finds, however the stream is chopped.
func FuzzObjects(f *testing.F) {
	for _, seed := range []string{
		`{} {"a":"}\"{"}{"b":[{}]}`, "\n", `{"a`, `{]`, `[]`, `{"\\":{}}  {}`, `{"a":"\`,
	} {
		f.Add([]byte(seed), uint8(3))
	}
	f.Fuzz(func(t *testing.T, stream []byte, chunk uint8) {
		from := objects{
			from: &chopped{stream, int(chunk%7) + 1}, most: 1 << 20,
			hold: func(int64) error { return nil },
		}
		if chunk%2 == 0 {
			from.left = int64(len(stream))
		}
		decoder := json.NewDecoder(bytes.NewReader(stream))
		for {
			text, err := from.next()
			var want json.RawMessage
			wantErr := decoder.Decode(&want)
			if err != nil || wantErr != nil {
				if wantErr == nil && want[0] == '{' {
					t.Fatalf("%q is missing: %v", want, err)
				}
				if errors.Is(wantErr, io.EOF) != errors.Is(err, io.EOF) {
					t.Fatalf("the end of %q: %v, want %v", stream, err, wantErr)
				}
				return
			}
			require.Equal(t, string(want), string(text))
			if from.ended() {
				require.Empty(t, bytes.TrimSpace(stream[decoder.InputOffset():]))
			}
		}
	})
}

// chopped reads a few bytes at a time.
type chopped struct {
	text []byte
	size int
}

func (c *chopped) Read(p []byte) (int, error) {
	if len(c.text) == 0 {
		return 0, io.EOF
	}
	n := copy(p, c.text[:min(c.size, len(c.text))])
	c.text = c.text[n:]
	return n, nil
}

// FuzzV3Bodies reads the bodies of the v3 surface: whatever they are, the
// outcome is a request or an error of the caller.
func FuzzV3Bodies(f *testing.F) {
	for _, seed := range []string{
		`{"topic_name":"a","replicas_assignments":{"0":[1,2]},"configs":[{"name":"a","value":1}]}`,
		`{"data":[{"name":"a","value":"b","operation":"SET"}],"validate_only":true}`,
		`{"data":[{"topic_name":"t","configs":[{"name":"a","operation":"DELETE"}]}]}`,
		`{"entries":[{"id":"1","value":{"type":"JSON","data":{"a":1e400}}}]}`, `{"value":"x"}`,
		`{"key":{"data":1},"headers":[{"name":"h","value":"AQ=="}],"timestamp":1}`,
		`{"replicas_assignments":[{"partition_id":0,"broker_ids":[0]}]}`, `{"partitions_count":1}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		for name, decode := range map[string]func() error{
			"topic":  func() error { _, err := decodeV3Topic(text); return err },
			"count":  func() error { _, err := decodeV3Count(text); return err },
			"value":  func() error { _, err := decodeV3Value(text); return err },
			"alter":  func() error { _, _, err := decodeV3Alter(text); return err },
			"topics": func() error { _, _, err := decodeV3AlterTopics(text); return err },
			"batch":  func() error { _, err := decodeV3Batch(text, newRecordGroup()); return err },
			"record": func() error {
				s := &v3Stream{g: &Gateway{limits: DefaultLimits()}}
				s.encoder = *s.g.newV3Encoder(t.Context(), "t")
				eager, lazy := newRecordGroup(), newRecordGroup()
				first := s.take(eager, text, false)
				err := s.take(lazy, text, true)
				if err == nil {
					err = lazy.reader.s.End()
				}
				if first == nil && err == nil { // else only the lazy one says why
					require.True(t, proto.Equal(eager.entries[0].record, lazy.entries[0].record))
					require.Equal(t, eager.entries[0].value, lazy.entries[0].value)
				}
				if err == nil && lazy.entries[0].err == nil {
					require.NoError(t, first)
				}
				if err == nil && lazy.entries[0].value.kind == kindJSON {
					require.True(t, json.Valid(lazy.entries[0].record.Value))
				}
				return err
			},
		} {
			if err := decode(); err != nil {
				code, _, _ := describe(v3Error(v3BodyError(err)))
				require.Contains(t, []int{400, 404, 413, 422}, code, "%s: %v", name, err)
				continue
			}
			require.True(t, json.Valid(text), name)
		}
	})
}
