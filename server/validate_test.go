package server_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/internal/batch"
	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/server"
	"github.com/sluicelog/sluice/server/schema"
	"github.com/sluicelog/sluice/storage"
	"github.com/sluicelog/sluice/tests/node"
)

// registered is a registry whose schema 1 is a string; it cannot be asked for
// schema 9.
type registered struct{}

func (registered) SchemaByID(_ context.Context, id int32) (string, []string, error) {
	switch id {
	case 1:
		return `"string"`, nil, nil
	case 9:
		return "", nil, errors.New("nobody answers")
	}
	return "", nil, fmt.Errorf("asking: %w", schema.ErrUnknown)
}

func withRegistry() node.Option {
	return node.WithServer(func(c *server.Config) { c.Schemas = registered{} })
}

const (
	fine       = "\x00\x00\x00\x00\x01\x02a" // the string a
	unknownID  = "\x00\x00\x00\x00\x02\x02a"
	noString   = "\x00\x00\x00\x00\x01\x04a"
	wrongMagic = "\x01\x00\x00\x00\x01\x02a"
	notAsked   = "\x00\x00\x00\x00\x09\x02a"
)

// forms are the two forms of a request with values, the last of which may be
// null.
func forms(t *testing.T, topic string, values ...string) map[string]*sluicev1.ProduceRequest {
	t.Helper()
	zero := int32(0)
	plain := &sluicev1.ProduceRequest{Topic: topic, Partition: &zero}
	var records []batch.Record
	for _, v := range values {
		value := []byte(v)
		if v == "null" {
			value = nil
		}
		plain.Records = append(plain.Records, &sluicev1.ProduceRecord{Value: value})
		records = append(records, batch.Record{Timestamp: 1, Value: value})
	}
	raw, err := batch.Encode(nil, records, withCodec(batch.Zstd))
	require.NoError(t, err)
	return map[string]*sluicev1.ProduceRequest{
		"plain":   plain,
		"encoded": {Topic: topic, Partition: &zero, RecordBatch: raw},
	}
}

func TestATopicTakesRecordsOfRegisteredSchemasOnly(t *testing.T) {
	f := begin(t, withRegistry())
	f.create("t", 1, "confluent.value.schema.validation", "true")
	for name, test := range map[string]struct {
		value string
		want  *fault.Fault
		say   string
	}{
		"unknown id":  {unknownID, fault.InvalidRecord, "the schema id 2"},
		"no value":    {noString, fault.InvalidRecord, "no value of the schema with id 1"},
		"wrong magic": {wrongMagic, fault.InvalidRecord, "begins with the byte 0x01"},
		"empty":       {"", fault.InvalidRecord, "has 0 bytes"},
		"not asked":   {notAsked, fault.BrokerNotAvailable, "cannot be asked for id 9"},
	} {
		for form, request := range forms(t, "t", fine, test.value, fine) {
			_, err := f.log.Produce(t.Context(), request)
			e := refused(t, err, test.want, test.say)
			if test.want == fault.InvalidRecord {
				require.Len(t, e.Fields, 1, "%s, %s", name, form)
				assert.Equal(t, "records[1].value", e.Fields[0].Path, "%s, %s", name, form)
			}
		}
	}
	assert.Equal(t, []storage.Offset{0}, f.ends("t"), "nothing was written in part")
	for _, request := range forms(t, "t", fine, "null") {
		_, err := f.log.Produce(t.Context(), request)
		require.NoError(t, err)
	}
	assert.Equal(t, []storage.Offset{4}, f.ends("t"))
}

func TestARefusalNamesEveryBadRecord(t *testing.T) {
	f := begin(t, withRegistry())
	f.create("t", 1, "sluice.value.schema.validation", "true")
	values := strings.Split(strings.Repeat("x,", 16)[:31], ",")
	values[0], values[12], values[15] = fine, notAsked, fine
	for _, request := range forms(t, "t", values...) {
		_, err := f.log.Produce(t.Context(), request)
		e := refused(t, err, fault.InvalidRecord, "and 3 more: records 11, 13-14")
		require.Len(t, e.Fields, 10)
		assert.Equal(t, "records[10].value", e.Fields[9].Path)
	}
	big := make([]string, 5000)
	for i := range big {
		big[i] = []string{fine, "x"}[i%2]
	}
	for _, request := range forms(t, "t", big...) {
		_, err := f.log.Produce(t.Context(), request)
		e := refused(t, err, fault.InvalidRecord, "and 2490 more: records 21, 23, ", "and others")
		assert.Less(t, len(e.Error()), 4<<10)
	}
	assert.Equal(t, []storage.Offset{0}, f.ends("t"))
}

func TestABadRecordOfOnePartitionKeepsTheOthersUnwritten(t *testing.T) {
	f := begin(t, withRegistry())
	f.create("t", 2, "confluent.key.schema.validation", "true")
	_, err := f.log.Produce(t.Context(), records(
		&sluicev1.ProduceRecord{Partition: new(int32(0)), Key: []byte(fine)},
		&sluicev1.ProduceRecord{Partition: new(int32(1)), Key: []byte("x"), Value: []byte("x")},
	))
	e := refused(t, err, fault.InvalidRecord)
	assert.Equal(t, "records[1].key", e.Fields[0].Path)
	assert.Equal(t, []storage.Offset{0, 0}, f.ends("t"))
}

func TestAStreamGoesOnAfterARecordOfNoSchema(t *testing.T) {
	f := begin(t, withRegistry())
	f.create("t", 1, "confluent.value.schema.validation", "true")
	stream, err := f.log.ProduceStream(soon(t))
	require.NoError(t, err)
	for _, value := range []string{fine, wrongMagic, fine} {
		for _, request := range forms(t, "t", value) {
			require.NoError(t, stream.Send(&sluicev1.ProduceStreamRequest{Request: request}))
			answer, err := stream.Recv()
			require.NoError(t, err)
			assert.Equal(t, value != fine, answer.GetError() != nil)
		}
	}
	require.NoError(t, stream.CloseSend())
	assert.Equal(t, []storage.Offset{4}, f.ends("t"))
}

func TestWithoutARegistryNothingIsTakenUnchecked(t *testing.T) {
	f := begin(t)
	for _, name := range []string{
		"confluent.key.schema.validation", "confluent.value.schema.validation",
		"sluice.key.schema.validation", "sluice.value.schema.validation",
	} {
		f.create(name, 1, name, "true")
		for _, request := range forms(t, name, fine, "null") {
			_, err := f.log.Produce(t.Context(), request)
			e := refused(t, err, fault.InvalidConfig, "no schema registry")
			assert.Equal(t, name, e.Value("name"))
		}
		assert.Equal(t, []storage.Offset{0}, f.ends(name))
	}
}
