package gateway

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/sluicelog/sluice/gateway/consumer"
	"github.com/sluicelog/sluice/internal/fault"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
)

// The bounds of what a consumer may ask for. The first is the broker's own.
const (
	subscribedTopicsMax  = 1000
	patternBytesMax      = 512
	assignedCountMax     = 10_000
	consumerNameBytesMax = 255
)

var topicNames = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,249}$`)

// addConsumers adds the consumer paths of the v2 surface.
func (g *Gateway) addConsumers() {
	const instancePath = "/consumers/{group}/instances/{instance}"
	consumes := confluentAnswers // KR takes those of every format
	g.add(route{
		method: http.MethodPost, pattern: "/consumers/{group}", surface: confluentSurface,
		consumes: consumes, produces: confluentAnswers, handle: g.createInstance,
	})
	for path, handle := range map[string]func(*response, *http.Request, *instance){
		"DELETE ":                   g.deleteInstance,
		"POST /subscription":        g.subscribe,
		"GET /subscription":         g.subscription,
		"DELETE /subscription":      g.unsubscribe,
		"POST /assignments":         g.assign,
		"GET /assignments":          g.assignments,
		"POST /positions":           g.seekTo,
		"POST /positions/beginning": g.seekBeginning,
		"POST /positions/end":       g.seekEnd,
		"GET /records":              g.confluentPoll,
		"POST /offsets":             g.commitOffsets,
		"GET /offsets":              g.committedOffsets,
	} {
		method, path, _ := strings.Cut(path, " ")
		added := route{
			method: method, pattern: instancePath + path, surface: confluentSurface,
			consumes: consumes, produces: confluentAnswers,
			handle: g.onInstance(handle),
		}
		if path == "/records" {
			added.produces = g.recordTypes()
		}
		g.add(added)
	}
}

// confluentMedia makes an answer one of v2's own type, or plain JSON where the
// caller takes that only.
func confluentMedia(r *http.Request) {
	if c := callOf(r); c.media != typeJSON {
		c.media = typeConfluent
	}
}

// onInstance finds the instance of a path and counts the call as a sign of life.
// One that lives elsewhere is called there.
func (g *Gateway) onInstance(
	handle func(*response, *http.Request, *instance),
) func(*response, *http.Request, params) {
	return func(w *response, r *http.Request, p params) {
		i, leave, err := g.consumers.enter(r, instanceKey{p["group"], p["instance"]})
		if err != nil {
			if g.forwardInstance(w, r, p["group"], p["instance"]) {
				return
			}
			confluentMedia(r)
			g.fail(w, r, err)
			return
		}
		defer leave()
		if !strings.HasSuffix(r.URL.Path, "/records") {
			confluentMedia(r)
		}
		handle(w, r, i)
	}
}

// createInstance makes a consumer.
func (g *Gateway) createInstance(w *response, r *http.Request, p params) {
	confluentMedia(r)
	b, _ := r.Body.(*body)
	text, err := b.all()
	if err != nil {
		g.fail(w, r, confluentBodyError(err))
		return
	}
	request, err := decodeConsumer(text)
	if err == nil {
		err = checkGroup(p["group"])
	}
	var format *embedded
	if err == nil {
		format, err = g.consumerFormat(request.format)
	}
	if err != nil {
		g.fail(w, r, err)
		return
	}
	if g.forwardCreate(w, r, p["group"], request.name) {
		return
	}
	i, err := g.consumers.create(r, p["group"], request.name, format, request.config)
	if err != nil {
		g.fail(w, r, err)
		return
	}
	g.writeJSON(w, r, struct {
		InstanceID string `json:"instance_id"`
		BaseURI    string `json:"base_uri"`
	}{i.key.name, g.baseURL(r) + "/consumers/" + url.PathEscape(i.key.group) +
		"/instances/" + url.PathEscape(i.key.name)})
}

// checkGroup refuses a group that the broker would refuse.
func checkGroup(group string) error {
	if len(group) > 255 || strings.ContainsFunc(group, func(r rune) bool {
		return r < ' ' || r == 0x7f
	}) {
		return fault.InvalidGroupID.With("group", group)
	}
	return nil
}

// consumerFormat returns the format of a name.
func (g *Gateway) consumerFormat(name string) (*embedded, error) {
	var names []string
	for _, f := range g.formats() {
		if f.name == strings.ToLower(name) {
			return f, nil
		}
		names = append(names, f.name)
	}
	return nil, &shaped{
		http.StatusUnprocessableEntity, http.StatusUnprocessableEntity, "Invalid format type.",
		fault.Unprocessable.With().At("format", fmt.Sprintf("is %q, one of %s", clip(name),
			strings.Join(names, ", "))),
	}
}

func (g *Gateway) deleteInstance(w *response, _ *http.Request, i *instance) {
	i.close(false)
	noContent(w)
}

// noContent answers that something was done.
func noContent(w *response) {
	w.Header().Set("Content-Type", typeConfluent)
	w.WriteHeader(http.StatusNoContent)
}

// subscribe subscribes an instance to topics or a pattern. It is answered when
// the instance is a member of the group.
func (g *Gateway) subscribe(w *response, r *http.Request, i *instance) {
	text, err := bodyOf(r)
	var topics []string
	var pattern string
	if err == nil {
		topics, pattern, err = decodeSubscription(text)
	}
	if err != nil {
		err = confluentBodyError(err)
	} else {
		ctx, cancel := i.call(r)
		defer cancel()
		err = i.subscribe(ctx, topics, pattern)
	}
	if err != nil {
		g.fail(w, r, err)
		return
	}
	noContent(w)
}

// subscribe makes the instance a member of its group, or one with another
// subscription. If the group refuses, nothing changes. Changes of a subscription take
// turns: two at once, as of a caller who gave the first one up and asked again, would
// make two members, of which nobody would end one.
func (i *instance) subscribe(ctx context.Context, topics []string, pattern string) error {
	select {
	case i.turn <- struct{}{}:
		defer func() { <-i.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	change := func(core *consumer.Instance) error { return core.Subscribe(topics, pattern) }
	i.mu.Lock()
	member := i.member
	i.mu.Unlock()
	isNew := member == nil
	if isNew {
		if err := i.update(change); err != nil {
			return illegalState(err)
		}
		member = newMembership(i)
	}
	err := member.subscribe(ctx, &sluicev1.Subscription{Topics: topics, Pattern: pattern})
	i.mu.Lock()
	closed := i.closed
	if err == nil && !closed {
		i.member = member
	}
	i.mu.Unlock()
	switch {
	case closed:
		member.leave()
		return errNoInstance
	case err == nil:
		return i.update(change) // a member reads no more of topics that it has left
	case isNew && fault.From(err).HTTP >= statusCancelled:
		member.leave() // it may have become one
	}
	if isNew {
		_ = i.update(func(core *consumer.Instance) error {
			core.Unsubscribe()
			return nil
		})
	}
	return err
}

func (g *Gateway) subscription(w *response, r *http.Request, i *instance) {
	i.mu.Lock()
	topics, pattern, _ := i.core.Subscription()
	i.mu.Unlock()
	answer := map[string]any{}
	if pattern != "" {
		ctx, cancel := i.call(r)
		defer cancel()
		var err error
		if topics, err = g.topicsLike(ctx, pattern); err != nil {
			g.fail(w, r, err)
			return
		}
		answer["topic_pattern"] = pattern
	}
	answer["topics"] = append([]string{}, topics...)
	g.writeJSON(w, r, answer)
}

// topicsLike returns the topics that a pattern stands for now: those whose whole
// name it matches, but for internal ones, as for the group.
func (g *Gateway) topicsLike(ctx context.Context, pattern string) ([]string, error) {
	expression, err := regexp.Compile(`^(?:` + pattern + `)$`)
	if err != nil {
		return nil, fmt.Errorf("compiling a pattern that the group has taken: %w", err)
	}
	names, err := g.topicNames(ctx)
	return slices.DeleteFunc(names, func(name string) bool {
		return !expression.MatchString(name)
	}), err
}

// unsubscribe ends subscription and assignment, and the part in the group.
func (g *Gateway) unsubscribe(w *response, r *http.Request, i *instance) {
	ctx, cancel := i.call(r)
	defer cancel()
	select {
	case i.turn <- struct{}{}:
		defer func() { <-i.turn }()
	case <-ctx.Done():
		g.fail(w, r, ctx.Err())
		return
	}
	i.mu.Lock()
	member := i.member
	i.member = nil
	i.mu.Unlock()
	if member != nil {
		if i.config.AutoCommit {
			_ = i.commitReturned(ctx, member) // else they are read again
		}
		member.leave()
	}
	_ = i.update(func(core *consumer.Instance) error {
		core.Unsubscribe()
		return nil
	})
	noContent(w)
}

// assign gives an instance partitions of its caller's choice.
func (g *Gateway) assign(w *response, r *http.Request, i *instance) {
	partitions, err := readPartitions(r)
	if err != nil {
		g.fail(w, r, err)
		return
	}
	ctx, cancel := i.call(r)
	defer cancel()
	for _, p := range partitions {
		if _, err = g.partitionExists(ctx, p); err != nil {
			g.fail(w, r, err)
			return
		}
	}
	err = i.update(func(core *consumer.Instance) error { return core.Assign(partitions) })
	if err != nil {
		g.fail(w, r, illegalState(err))
		return
	}
	if i.config.Reset != consumer.ResetNone {
		_ = i.resolve(ctx) // else the first read does it
	}
	noContent(w)
}

// partitionExists returns the error of a partition that there is not.
func (g *Gateway) partitionExists(ctx context.Context, p consumer.Partition) (bool, error) {
	topic, err := g.topics.GetTopic(ctx, &sluicev1.GetTopicRequest{Topic: p.Topic})
	if err != nil {
		return false, err
	}
	if p.Number < 0 || p.Number >= topic.GetTopic().GetPartitionCount() {
		return false, fault.UnknownPartition.With("topic", p.Topic, "partition", p.Number)
	}
	return true, nil
}

// partitionName is how v2 writes a partition.
type partitionName struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
}

func (g *Gateway) assignments(w *response, r *http.Request, i *instance) {
	names := []partitionName{}
	for _, p := range i.owned() {
		names = append(names, partitionName{p.Topic, p.Number})
	}
	g.writeJSON(w, r, map[string]any{"partitions": names})
}

// seekTo moves an instance to offsets and times.
func (g *Gateway) seekTo(w *response, r *http.Request, i *instance) {
	text, err := bodyOf(r)
	var places []consumer.Place
	if err == nil {
		places, err = decodePositions(text)
	}
	g.move(w, r, i, places, confluentBodyError(err))
}

func (g *Gateway) seekBeginning(w *response, r *http.Request, i *instance) {
	g.seekAll(w, r, i, consumer.Earliest)
}

func (g *Gateway) seekEnd(w *response, r *http.Request, i *instance) {
	g.seekAll(w, r, i, consumer.Latest)
}

func (g *Gateway) seekAll(w *response, r *http.Request, i *instance, to consumer.Kind) {
	partitions, err := readPartitions(r)
	var places []consumer.Place
	for _, p := range partitions {
		places = append(places, consumer.Place{
			Partition: p, Start: consumer.Start{Kind: to},
		})
	}
	g.move(w, r, i, places, err)
}

// move moves an instance, in all places or in none.
func (g *Gateway) move(
	w *response, r *http.Request, i *instance, places []consumer.Place, err error,
) {
	if err == nil {
		err = i.update(func(core *consumer.Instance) error { return core.SeekAll(places) })
		if err != nil {
			err = illegalState(err)
		}
	}
	if err != nil {
		g.fail(w, r, err)
		return
	}
	ctx, cancel := i.call(r)
	defer cancel()
	_ = i.resolve(ctx) // else the next read does it
	noContent(w)
}

// commitOffsets commits what the body names, or all that was read.
func (g *Gateway) commitOffsets(w *response, r *http.Request, i *instance) {
	text, err := bodyOf(r)
	var offsets []*sluicev1.CommittedOffset
	all := isEmpty(text)
	if err == nil && !all {
		offsets, err = decodeCommit(text)
		all = err == nil && offsets == nil
	}
	if err != nil {
		err = confluentBodyError(err)
	} else {
		ctx, cancel := i.call(r)
		defer cancel()
		i.mu.Lock()
		member := i.member
		i.mu.Unlock()
		switch {
		case all:
			err = i.commitReturned(ctx, member)
		case len(offsets) > 0: // else there is nothing to do
			err = i.commit(ctx, member, offsets)
		}
	}
	if err != nil {
		g.fail(w, r, err)
		return
	}
	g.write(w, r, http.StatusOK, []byte("[]"))
}

// offsetOf is how v2 writes a committed offset.
type offsetOf struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Offset    int64  `json:"offset"`
	Metadata  string `json:"metadata"`
}

// committedOffsets returns what the group has committed in partitions.
func (g *Gateway) committedOffsets(w *response, r *http.Request, i *instance) {
	if !hasBody(r) { // as the REST Proxy has it
		g.fail(w, r, fault.UnknownPartition.Because("the body names the partitions"))
		return
	}
	partitions, err := readPartitions(r)
	var found map[consumer.Partition]*sluicev1.CommittedOffset
	if err == nil {
		var places []consumer.Place
		for _, p := range partitions {
			places = append(places, consumer.Place{Partition: p})
		}
		ctx, cancel := i.call(r)
		defer cancel()
		found, err = g.committedOf(ctx, i.key.group, places)
	}
	if err != nil {
		g.fail(w, r, err)
		return
	}
	offsets := []offsetOf{}
	for _, p := range partitions {
		if o, ok := found[p]; ok {
			offsets = append(offsets, offsetOf{p.Topic, p.Number, o.GetOffset(), o.GetMetadata()})
		}
	}
	g.writeJSON(w, r, map[string]any{"offsets": offsets})
}
