package schema

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	registryv1 "github.com/sluicelog/sluice/gen/sluice/registry/v1"
	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/internal/setting"
)

// fake is a registry in memory.
type fake struct {
	texts map[int32]string
	down  error
	asked atomic.Int32
}

func (f *fake) SchemaByID(ctx context.Context, id int32) (string, []string, error) {
	f.asked.Add(1)
	if f.down != nil {
		return "", nil, f.down
	}
	text, ok := f.texts[id]
	if !ok {
		return "", nil, fmt.Errorf("asking: %w", ErrUnknown)
	}
	return text, []string{`{"type":"enum","name":"E","symbols":["A"]}`}, nil
}

func newChecker(t *testing.T, source Source) *Checker {
	t.Helper()
	c, err := New(source, DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func bytesOf(t *testing.T, text string) []byte {
	t.Helper()
	if text == "null" {
		return nil
	}
	b, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestRecordsAreCheckedByTheirSchema(t *testing.T) {
	f := &fake{texts: map[int32]string{
		1: `"string"`, 2: `{"type":"record","name":"R","fields":[{"name":"e","type":"E"}]}`,
		3: `{"type":"nope"}`,
		4: `{"type":"record","name":"L","fields":[{"name":"next","type":["null","L"]}]}`,
		5: `{"type":"array","items":"null"}`,
	}}
	c := newChecker(t, f)
	for _, row := range []struct{ value, want string }{
		{"null", ""},
		{"00000000010261", ""},
		{"000000000200", ""},
		{"", "has 0 bytes"},
		{"00000001", "has 4 bytes"},
		{"0100000001", "begins with the byte 0x01"},
		{"0000000000", "schema id 0; ids are 1 to 2147483647"},
		{"00ffffffff", "schema id 4294967295"},
		{"0000000009", "the schema registry has no such id"},
		{"0000000003", "its schema is not understood"},
		{"000000000104", "no value of the schema with id 1: at byte"},
		{"0000000001026100", "1 bytes after the end"},
		{"000000000202", "symbol 1"},
		{"0000000004" + strings.Repeat("02", 2<<20), "nested more than"},
		{"0000000005808080808040", "more than 1000000 items"},
	} {
		records := []Record{{Key: []byte("x"), Value: bytesOf(t, row.value)}}
		failed := c.Check(t.Context(), Rules{Value: true}, records)
		if row.want == "" {
			if failed != nil {
				t.Errorf("%s: %v", row.value, failed)
			}
			continue
		}
		if len(failed) != 1 || !errors.Is(failed[0], fault.InvalidRecord) ||
			!strings.Contains(failed[0].Error(), row.want) ||
			!strings.Contains(failed[0].Error(), "records[0].value") {
			t.Errorf("%.30s: %v, want %s", row.value, failed, row.want)
		}
	}
	if n := f.asked.Load(); n != 6 {
		t.Errorf("the registry was asked %d times for 6 ids", n)
	}
}

func TestRulesSayWhatIsChecked(t *testing.T) {
	c := newChecker(t, &fake{texts: map[int32]string{1: `"int"`}})
	good, bad := []byte{0, 0, 0, 0, 1, 2}, []byte{7}
	records := []Record{{good, good}, {bad, good}, {good, bad}, {nil, nil}}
	for _, row := range []struct {
		rules Rules
		want  string
	}{
		{Rules{}, "0000"},
		{Rules{Key: true}, "0100"},
		{Rules{Value: true}, "0010"},
		{Rules{Key: true, Value: true}, "0110"},
	} {
		failed := c.Check(t.Context(), row.rules, records)
		got := "0000"
		if failed != nil {
			got = ""
			for _, err := range failed {
				if err != nil {
					got += "1"
				} else {
					got += "0"
				}
			}
		}
		if got != row.want {
			t.Errorf("%+v: %s, want %s", row.rules, got, row.want)
		}
	}
	view := setting.ResolveTopic(setting.Layers{})
	if RulesOf(view).Any() {
		t.Error("checking is on by default")
	}
	view.KeySchemaValidation = true
	if RulesOf(view) != (Rules{Key: true}) {
		t.Errorf("%+v", RulesOf(view))
	}
}

func TestAnIDThatIsNewIsSeenSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{texts: map[int32]string{}}
		c := newChecker(t, f)
		records := []Record{{Value: []byte{0, 0, 0, 0, 1, 2}}}
		rules := Rules{Value: true}
		for range 10 {
			if c.Check(t.Context(), rules, records) == nil {
				t.Fatal("there is no schema")
			}
		}
		if f.asked.Load() != 1 {
			t.Errorf("asked %d times", f.asked.Load())
		}
		f.texts[1] = `"int"`
		time.Sleep(DefaultConfig().UnknownTime + time.Millisecond)
		if failed := c.Check(t.Context(), rules, records); failed != nil {
			t.Errorf("%v", failed)
		}
	})
}

func TestARegistryThatIsAwayIsNotTheRecordsFault(t *testing.T) {
	f := &fake{down: errors.New("connection refused")}
	c := newChecker(t, f)
	records := []Record{
		{Value: []byte{0, 0, 0, 0, 1, 2}},
		{Value: []byte{0, 0, 0, 0, 2, 2}},
		{Value: []byte{9}},
	}
	failed := c.Check(t.Context(), Rules{Value: true}, records)
	if len(failed) != 3 || !errors.Is(failed[0], fault.BrokerNotAvailable) ||
		!errors.Is(failed[1], fault.BrokerNotAvailable) ||
		!errors.Is(failed[2], fault.InvalidRecord) {
		t.Errorf("%v", failed)
	}
	if f.asked.Load() != 1 {
		t.Errorf("asked %d times", f.asked.Load())
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if failed := c.Check(ctx, Rules{Value: true}, records); !errors.Is(failed[0],
		context.Canceled) {
		t.Errorf("%v", failed)
	}
	f.down, f.texts = nil, map[int32]string{1: `"int"`, 2: `"int"`}
	if failed := c.Check(t.Context(), Rules{Value: true}, records[:2]); failed != nil {
		t.Errorf("%v", failed)
	}
}

func TestConfigurationsAreBounded(t *testing.T) {
	if _, err := New(&fake{}, Config{}); err == nil {
		t.Error("nothing is bounded")
	}
}

// conn answers GetSchema.
type conn struct {
	grpc.ClientConnInterface
	asked *registryv1.GetSchemaRequest
	err   error
}

func (c *conn) Invoke(_ context.Context, _ string, in, out any, _ ...grpc.CallOption) error {
	c.asked = in.(*registryv1.GetSchemaRequest)
	out.(*registryv1.GetSchemaResponse).Schema = &registryv1.Schema{Schema: `"int"`}
	return c.err
}

func TestTheTwinAsksOverGRPC(t *testing.T) {
	c := &conn{}
	text, _, err := NewTwin(c).SchemaByID(t.Context(), 7)
	if text != `"int"` || err != nil || c.asked.GetId() != 7 || !c.asked.GetResolved() {
		t.Errorf("%s, %v, %v", text, err, c.asked)
	}
	c.err = status.Error(codes.NotFound, "Schema 7 not found")
	if _, _, err := NewTwin(c).SchemaByID(t.Context(), 7); !errors.Is(err, ErrUnknown) {
		t.Errorf("%v", err)
	}
	c.err = status.Error(codes.Unavailable, "away")
	if _, _, err := NewTwin(c).SchemaByID(t.Context(), 7); err == nil ||
		errors.Is(err, ErrUnknown) {
		t.Errorf("%v", err)
	}
}
