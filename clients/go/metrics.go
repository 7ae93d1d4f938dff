package sluice

import (
	"maps"
	"sync"
	"time"
)

// Metrics are measured values by Kafka's names of them, such as record-send-rate. Rates are a
// second, times in milliseconds, sizes in bytes; averages, maxima and rates are of the last half
// to whole minute; totals are since the start.
type Metrics map[string]float64

// metricsSample is how long a sample of a window gathers, as in Kafka (metrics.sample.window.ms).
const metricsSample = 30 * time.Second

// window sums up numbers of the last 30 to 60 s, in two samples. The zero window is empty.
type window struct {
	samples [2]sample // the older first
	total   float64
}

type sample struct {
	start    time.Time
	sum, max float64
	count    int64
}

// roll begins a new sample where the newest is old.
func (w *window) roll(now time.Time) {
	newest := &w.samples[1]
	switch age := now.Sub(newest.start); {
	case newest.start.IsZero() || age >= 2*metricsSample:
		w.samples = [2]sample{{}, {start: now}}
	case age >= metricsSample:
		w.samples = [2]sample{*newest, {start: newest.start.Add(metricsSample)}}
	}
}

// add counts a number.
func (w *window) add(value float64, now time.Time) {
	w.roll(now)
	newest := &w.samples[1]
	newest.sum += value
	newest.count++
	newest.max = max(newest.max, value)
	w.total += value
}

// avg is the mean of the numbers, 0 without any.
func (w *window) avg(now time.Time) float64 {
	w.roll(now)
	count := w.samples[0].count + w.samples[1].count
	return (w.samples[0].sum + w.samples[1].sum) / float64(max(1, count))
}

// most is the largest of the numbers, 0 without any.
func (w *window) most(now time.Time) float64 {
	w.roll(now)
	return max(w.samples[0].max, w.samples[1].max)
}

// rate is the sum of the numbers a second.
func (w *window) rate(now time.Time) float64 {
	w.roll(now)
	since := w.samples[0].start
	if since.IsZero() {
		since = w.samples[1].start
	}
	return (w.samples[0].sum + w.samples[1].sum) / max(1, now.Sub(since).Seconds())
}

// gauges are windows by the names that sums of them have.
type gauges struct {
	mu      sync.Mutex
	windows map[string]*window
}

// add counts a number under a name.
func (g *gauges) add(name string, value float64, now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	w := g.windows[name]
	if w == nil {
		if g.windows == nil {
			g.windows = map[string]*window{}
		}
		w = &window{}
		g.windows[name] = w
	}
	w.add(value, now)
}

// rates returns name-rate and name-total of each name.
func (g *gauges) rates(now time.Time, names ...string) Metrics {
	return g.read(names, func(name string, w *window, into Metrics) {
		into[name+"-rate"], into[name+"-total"] = w.rate(now), w.total
	})
}

// averages returns name-avg and name-max of each name.
func (g *gauges) averages(now time.Time, names ...string) Metrics {
	return g.read(names, func(name string, w *window, into Metrics) {
		into[name+"-avg"], into[name+"-max"] = w.avg(now), w.most(now)
	})
}

func (g *gauges) read(names []string, read func(string, *window, Metrics)) Metrics {
	g.mu.Lock()
	defer g.mu.Unlock()
	values := Metrics{}
	for _, name := range names {
		w := g.windows[name]
		if w == nil {
			w = &window{}
		}
		read(name, w, values)
	}
	return values
}

// milliseconds is a duration as a metric.
func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// Metrics returns what the producer has measured: record-send-rate and -total, byte-rate and
// -total (compressed), record-error-rate and -total, record-retry-rate and -total, request-rate
// and -total (of batches), batch-size-avg and -max (compressed), records-per-request-avg and -max,
// request-latency-avg and -max, record-queue-time-avg and -max, compression-rate-avg,
// requests-in-flight, buffer-total-bytes and buffer-available-bytes.
func (p *Producer) Metrics() Metrics {
	now := time.Now()
	m := p.metrics.rates(now, "record-send", "byte", "record-error", "record-retry", "request")
	maps.Copy(m, p.metrics.averages(now, "batch-size", "records-per-request", "request-latency",
		"record-queue-time", "compression-rate"))
	delete(m, "compression-rate-max")
	inFlight := 0
	p.mu.Lock()
	for _, q := range p.active {
		inFlight += q.inFlight
	}
	p.mu.Unlock()
	m["requests-in-flight"] = float64(inFlight)
	m["buffer-total-bytes"] = float64(p.config.bufferBytes)
	m["buffer-available-bytes"] = float64(p.config.bufferBytes - p.buffered.Load())
	return m
}

// observe measures a batch that is done, before its callbacks.
func (p *Producer) observe(b *outBatch) {
	now := time.Now()
	records, sent := float64(len(b.entries)), float64(b.encodedBytes)
	if b.attempts > 1 {
		p.metrics.add("record-retry", records*float64(b.attempts-1), now)
	}
	if b.attempts > 0 {
		p.metrics.add("request", float64(b.attempts), now)
		p.metrics.add("batch-size", sent, now)
		p.metrics.add("records-per-request", records, now)
		p.metrics.add("request-latency", milliseconds(b.latency), now)
		p.metrics.add("record-queue-time", milliseconds(b.sentAt.Sub(b.created)), now)
		p.metrics.add("compression-rate", sent/float64(max(1, b.bytes)), now)
	}
	if b.err != nil {
		p.metrics.add("record-error", records, now)
	} else {
		p.metrics.add("record-send", records, now)
		p.metrics.add("byte", sent, now)
	}
	p.client.hooks.OnBatch(BatchInfo{
		Topic: b.queue.topic, Partition: b.queue.partition, Records: len(b.entries),
		Bytes: b.bytes, CompressedBytes: b.encodedBytes, QueueTime: b.sentAt.Sub(b.created),
		Retries: max(0, b.attempts-1), Err: b.err,
	})
	if b.attempts > 0 {
		p.client.hooks.OnRequest(RequestInfo{
			Name: "Produce", Broker: b.broker, Latency: b.latency, Err: b.err,
		})
	}
}

// Metrics returns what the consumer has measured: records-consumed-rate and -total,
// bytes-consumed-rate and -total, fetch-size-avg and -max, records-per-request-avg and -max (of a
// Poll), records-lag-max (now), assigned-partitions, time-between-poll-avg and -max; with a group
// commit-rate and -total, commit-latency-avg and -max, heartbeat-rate and -total,
// last-heartbeat-seconds-ago, rebalance-rate and -total.
func (c *Consumer) Metrics() Metrics {
	now := time.Now()
	m := c.metrics.rates(now, "records-consumed", "bytes-consumed", "commit", "heartbeat",
		"rebalance")
	maps.Copy(m, c.metrics.averages(now, "fetch-size", "records-per-request", "commit-latency",
		"time-between-poll"))
	c.mu.Lock()
	defer c.mu.Unlock()
	m["assigned-partitions"] = float64(len(c.order))
	lag := int64(0)
	for _, s := range c.order {
		lag = max(lag, s.highWatermark-s.next)
	}
	m["records-lag-max"] = float64(lag)
	if c.member != nil {
		m["last-heartbeat-seconds-ago"] = now.Sub(c.member.heardAt).Seconds()
	}
	return m
}

// requested tells the program of a request that began then and has been answered.
func (c *Client) requested(name string, to *link, began time.Time, err error) {
	c.hooks.OnRequest(RequestInfo{
		Name: name, Broker: to.broker, Latency: time.Since(began), Err: err,
	})
}

// moved tells of a partition that goes over another link from now on.
func (c *Client) moved(what, topic string, partition int32, to *link) {
	c.logger.Info("the leader of a partition moved", "doing", what, "topic", topic,
		"partition", partition, "broker", to.broker, "address", to.address)
	c.hooks.OnLeaderChange(topic, partition, to.broker)
}
