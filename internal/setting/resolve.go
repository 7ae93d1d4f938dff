package setting

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Source says which layer a value comes from, with Kafka's names.
type Source string

// The sources, the one that wins first.
const (
	SourceTopic          Source = "DYNAMIC_TOPIC_CONFIG"
	SourceBroker         Source = "DYNAMIC_BROKER_CONFIG"
	SourceClusterDefault Source = "DYNAMIC_DEFAULT_BROKER_CONFIG"
	SourceStatic         Source = "STATIC_BROKER_CONFIG"
	SourceDefault        Source = "DEFAULT_CONFIG"
)

// Layers are the texts that were set, by name. Each map may be nil; none is
// changed. A text that is not legal (an older version may have taken it) counts
// as not set.
type Layers struct {
	Topic   map[string]string // of one topic
	Broker  map[string]string // of one node, changed while it runs
	Cluster map[string]string // of all nodes, changed while they run
	Static  map[string]string // of one node, given at its start
}

// Synonym is one of the places that a value may come from.
type Synonym struct {
	Name   string
	Value  string
	Source Source
}

// Entry is the effective value of a setting, as DescribeConfigs shows it.
type Entry struct {
	*Setting
	// Value is the text that holds, in the unit of the setting.
	Value  string
	Source Source
	// From lists all places where the value is set, the one that holds first,
	// each in its own unit.
	From []Synonym
}

// ResolveTopic returns the settings that hold for a topic.
func ResolveTopic(layers Layers) Topic { return topicOf(resolver{layers, ScopeTopic}) }

// ResolveBroker returns the settings that hold for a node. Layers.Topic plays
// no part.
func ResolveBroker(layers Layers) Broker { return brokerOf(resolver{layers, ScopeBroker}) }

// Entries returns the effective value of every setting of a scope, sorted by
// name.
func Entries(scope Scope, layers Layers) []Entry {
	r := resolver{layers, scope}
	entries := make([]Entry, 0, len(index[scope]))
	for _, name := range Names(scope) {
		entries = append(entries, r.entry(index[scope][name]))
	}
	return entries
}

type resolver struct {
	layers Layers
	scope  Scope
}

// entry gathers every place where s is set. The broker settings that s is
// synonymous with are looked up in every layer by turns: that
// log.retention.ms goes before log.retention.hours holds whatever layer either
// is in, as in Kafka.
func (r resolver) entry(s *Setting) Entry {
	var from []Synonym
	if r.scope == ScopeTopic {
		from = appendSet(from, s, r.layers.Topic, SourceTopic)
	} else {
		from = r.appendBroker(from, s)
	}
	for _, name := range s.Synonyms {
		from = r.appendBroker(from, index[ScopeBroker][name])
	}
	from = appendDefault(from, s)
	e := Entry{Setting: s, Value: from[0].Value, Source: from[0].Source, From: from}
	if first := from[0]; first.Name != s.Name {
		e.Value = convert(first.Value, unitOf(first.Name), s.Unit)
	}
	return e
}

// appendBroker adds the layers in which the broker setting s is set.
func (r resolver) appendBroker(from []Synonym, s *Setting) []Synonym {
	from = appendSet(from, s, r.layers.Broker, SourceBroker)
	from = appendSet(from, s, r.layers.Cluster, SourceClusterDefault)
	return appendSet(from, s, r.layers.Static, SourceStatic)
}

// appendSet adds the value of s in one layer, if it is there and legal.
func appendSet(from []Synonym, s *Setting, layer map[string]string, source Source) []Synonym {
	value, set := layer[s.Name]
	if !set || s.Check(value) != nil {
		return from
	}
	return append(from, Synonym{Name: s.Name, Value: strings.TrimSpace(value), Source: source})
}

// appendDefault adds the default of the last synonym that has one, so that the
// entry names the setting whose default it is.
func appendDefault(from []Synonym, s *Setting) []Synonym {
	for _, v := range slices.Backward(s.Synonyms) {
		if row := index[ScopeBroker][v]; row.Default != "" {
			return append(from, Synonym{
				Name: row.Name, Value: row.Default, Source: SourceDefault,
			})
		}
	}
	return append(from, Synonym{Name: s.Name, Value: s.Default, Source: SourceDefault})
}

func unitOf(broker string) Unit { return index[ScopeBroker][broker].Unit }

var unitMillis = map[Unit]int64{
	UnitMillis: 1, UnitMinutes: time.Minute.Milliseconds(), UnitHours: time.Hour.Milliseconds(),
}

// convert writes a whole number of one unit of time in another; -1 stays, and
// what overflows becomes the largest long. Other texts come back as they are.
func convert(value string, from, to Unit) string {
	if from == to || unitMillis[from] == 0 || unitMillis[to] == 0 {
		return value
	}
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil || n < 0 {
		return value
	}
	factor := unitMillis[from]
	if n > math.MaxInt64/factor {
		return strconv.FormatInt(math.MaxInt64, 10)
	}
	return strconv.FormatInt(n*factor/unitMillis[to], 10)
}

// text returns the value that holds.
func (r resolver) text(name string) string {
	s, ok := index[r.scope][name]
	if !ok {
		panic("setting: no " + r.scope.String() + " setting " + name)
	}
	return r.entry(s).Value
}

func (r resolver) bool(name string) bool { return strings.EqualFold(r.text(name), "true") }

func (r resolver) list(name string) []string { return split(r.text(name)) }

func (r resolver) number(name string) int64 {
	n, err := strconv.ParseInt(r.text(name), 10, 64)
	if err != nil {
		panic("setting: the table's default of " + name + " is no number")
	}
	return n
}

func (r resolver) double(name string) float64 {
	n, err := strconv.ParseFloat(r.text(name), 64)
	if err != nil {
		panic("setting: the table's default of " + name + " is no number")
	}
	return n
}

// duration reads a span; a negative number stays negative, and one that a
// Duration can't hold becomes its largest value.
func (r resolver) duration(name string) time.Duration {
	n := r.number(name)
	unit := time.Duration(unitMillis[index[r.scope][name].Unit]) * time.Millisecond
	if n > int64(math.MaxInt64/unit) {
		return math.MaxInt64
	}
	return time.Duration(n) * unit
}
