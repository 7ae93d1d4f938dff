package server

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"google.golang.org/grpc/codes"

	"github.com/sluicelog/sluice/server/replica"
)

// otherTopics is the label of all topics beyond the bound, which is no name that
// a topic can have.
const otherTopics = "(other)"

// metrics are the node's metrics. Labels are bounded: methods and codes are
// those of the API, and topics are cut off at a number.
type metrics struct {
	registry *prometheus.Registry
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	bytesIn  *prometheus.CounterVec
	bytesOut *prometheus.CounterVec
	// forwarded counts calls handed on to other nodes.
	forwarded *prometheus.CounterVec

	topicsMax int
	mu        sync.Mutex
	topics    map[string]*topicMetrics
}

// topicMetrics are those of one topic, or of all beyond the bound.
type topicMetrics struct{ bytesIn, bytesOut prometheus.Counter }

func newMetrics(topicsMax int) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sluice_requests_total",
			Help: "Calls that ended, by RPC and gRPC code.",
		}, []string{"method", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "sluice_request_duration_seconds",
			Help:    "How long calls took; streams and long polls as long as they lasted.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 4, 10),
		}, []string{"method"}),
		bytesIn: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sluice_topic_bytes_in_total",
			Help: "Bytes of record batches appended, as stored.",
		}, []string{"topic"}),
		bytesOut: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sluice_topic_bytes_out_total",
			Help: "Bytes of record batches read by callers, as stored.",
		}, []string{"topic"}),
		forwarded: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sluice_requests_forwarded_total",
			Help: "Calls and streams handed on to the node that answers them, by RPC.",
		}, []string{"method"}),
		topicsMax: topicsMax,
		topics:    map[string]*topicMetrics{},
	}
	m.registry.MustRegister(m.requests, m.seconds, m.bytesIn, m.bytesOut, m.forwarded,
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// gauge adds a metric that is read when it is asked for.
func (m *metrics) gauge(name, help string, read func() int64) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(
		prometheus.GaugeOpts{Name: name, Help: help},
		func() float64 { return float64(read()) }))
}

// replicas adds what operators watch of replication.
func (m *metrics) replicas(r *replica.Replicas) {
	for name, is := range map[string]struct {
		help string
		of   func(replica.Counts) int64
	}{
		"sluice_partitions_led": {
			"Partitions that the node leads.",
			func(c replica.Counts) int64 { return c.Led },
		},
		"sluice_partitions_under_replicated": {
			"Partitions that the node leads of which a replica is not in sync.",
			func(c replica.Counts) int64 { return c.UnderReplicated },
		},
		"sluice_partitions_under_min_isr": {
			"Partitions that the node leads and that take no writes with acks=all.",
			func(c replica.Counts) int64 { return c.UnderMinISR },
		},
		"sluice_replicas_stopped": {
			"Replicas that were stopped because going on is not safe, or are damaged.",
			func(c replica.Counts) int64 { return c.Stopped },
		},
		"sluice_appends_waiting": {
			"Appends that are on disk and wait for other replicas.",
			func(c replica.Counts) int64 { return c.Waiting },
		},
	} {
		m.gauge(name, is.help, func() int64 { return is.of(r.Count()) })
	}
}

// observe counts a call that ended.
func (m *metrics) observe(method string, code codes.Code, took time.Duration) {
	m.requests.WithLabelValues(method, code.String()).Inc()
	m.seconds.WithLabelValues(method).Observe(took.Seconds())
}

// topic returns the metrics of a topic. The first topics to come have their
// own, until forget gives one up.
func (m *metrics) topic(name string) *topicMetrics {
	m.mu.Lock()
	defer m.mu.Unlock()
	if t := m.topics[name]; t != nil {
		return t
	}
	if len(m.topics) >= m.topicsMax {
		name = otherTopics
	}
	t := &topicMetrics{
		bytesIn: m.bytesIn.WithLabelValues(name), bytesOut: m.bytesOut.WithLabelValues(name),
	}
	if name != otherTopics {
		m.topics[name] = t
	}
	return t
}

// keep drops the metrics of topics that are no more.
func (m *metrics) keep(topics map[string]*topic) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name := range m.topics {
		if topics[name] == nil {
			delete(m.topics, name)
			m.bytesIn.DeleteLabelValues(name)
			m.bytesOut.DeleteLabelValues(name)
		}
	}
}
