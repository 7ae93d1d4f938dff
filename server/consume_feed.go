package server

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/server/group"
	"github.com/sluicelog/sluice/storage"
)

// source is where the records of one partition come from: a log of this node, or
// another node's.
type source interface {
	// read returns the next records of at most about so many bytes, or none at
	// the end, and moves on. What it returns is valid until give.
	read(ctx context.Context, bytesMax int) (page, error)
	// give gives back what the last page took of the node's memory.
	give()
	// mark returns how to wait until there may be something that was not there at
	// its call: mark before reading, and wait if that found nothing.
	mark() (wait func(context.Context))
	// position returns the offset that is read next, and seek changes it.
	position() int64
	seek(offset int64)
}

// openSource opens a partition at an offset.
func (s *Server) openSource(at group.Place, offset int64, f form) (source, error) {
	to, err := s.leaderOf(at)
	if err != nil {
		return nil, err
	}
	if to.node != s.cluster.NodeID() {
		r := &remoteSource{s: s, at: at, form: f}
		r.next.Store(offset)
		return r, nil
	}
	r, err := s.newReader(at.Topic, at.Partition, offset, "")
	if err != nil {
		return nil, err
	}
	if err := r.form(s, f.format, f.isolation, f.maxBytes); err != nil {
		return nil, err
	}
	r.recordsMax = s.static.FetchRecordCountMax
	return localSource{s, r}, nil
}

// localSource is a partition that this node leads.
type localSource struct {
	s *Server
	r *reader
}

func (l localSource) read(ctx context.Context, bytesMax int) (page, error) {
	l.r.bytesMax = bytesMax
	got, err := l.r.readHeld(ctx)
	if err != nil {
		err = l.s.located(err, l.r.topic, l.r.partition)
	}
	return got, err
}

func (l localSource) mark() func(context.Context) {
	changed := l.r.log.Changed()
	return func(ctx context.Context) {
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}

func (l localSource) give()             { l.r.held.give() }
func (l localSource) position() int64   { return int64(l.r.next) }
func (l localSource) seek(offset int64) { l.r.next = storage.Offset(offset) }

// form is in which form records are sent.
type form struct {
	format    sluicev1.RecordFormat
	isolation sluicev1.IsolationLevel
	maxBytes  int32
	bytesMax  int // of a message
}

// check reports what is wrong with it, before any partition is read.
func (f *form) check(s *Server) error {
	var r reader
	err := r.form(s, f.format, f.isolation, f.maxBytes)
	f.bytesMax = r.bytesMax
	return err
}

// offsetReset says where to begin where nothing is stored.
type offsetReset struct {
	at  string        // as in ListOffsetsRequest; empty: none
	age time.Duration // instead of at, where byAge is set
	by  bool
}

var isoDuration = regexp.MustCompile(
	`^P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?$`)

// parseReset reads offset_reset of ConsumeJoin.
func parseReset(text string) (offsetReset, error) {
	switch text {
	case "":
		return offsetReset{at: "latest"}, nil
	case "latest", "earliest":
		return offsetReset{at: text}, nil
	case "none":
		return offsetReset{}, nil
	}
	if age, ok := strings.CutPrefix(text, "by_duration:"); ok {
		if d, err := parseAge(age); err == nil {
			return offsetReset{age: d, by: true}, nil
		}
	} else if _, ok := readTime(text); ok {
		return offsetReset{at: text}, nil
	}
	return offsetReset{}, fault.InvalidRequest.With().At("join.offset_reset", fmt.Sprintf(
		"is %.100q, none of latest, earliest, none, a time as in RFC 3339 or milliseconds since "+
			"1970, and by_duration: with a duration such as 1h30m or PT1H30M", text))
}

// parseAge reads a duration as Go or ISO 8601 write it, without years and months,
// whose length is not fixed.
func parseAge(text string) (time.Duration, error) {
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return d, nil
	}
	parts := isoDuration.FindStringSubmatch(text)
	if parts == nil || strings.HasSuffix(text, "T") || text == "P" {
		return 0, errors.New("no duration")
	}
	total := 0.0
	for i, unit := range []time.Duration{24 * time.Hour, time.Hour, time.Minute, time.Second} {
		if parts[i+1] == "" {
			continue
		}
		n, err := strconv.ParseFloat(parts[i+1], 64)
		if err != nil {
			return 0, err
		}
		total += n * float64(unit)
	}
	if total > float64(1<<62) {
		return 0, errors.New("too long")
	}
	return time.Duration(total), nil
}

// startAt returns where a partition begins: what the group has stored, if the
// log holds it, or where offset_reset says.
func (c *consumption) startAt(
	ctx context.Context, at group.Place, stored *int64,
) (int64, error) {
	s := c.g.s
	start, err := s.offsetAt(ctx, at.Topic, at.Partition, "earliest")
	if err != nil {
		return 0, err
	}
	end, err := s.offsetAt(ctx, at.Topic, at.Partition, "latest")
	if err != nil {
		return 0, err
	}
	if stored != nil && *stored >= start && *stored <= end {
		return *stored, nil
	}
	switch {
	case c.reset.by:
		then := s.cfg.Clock().Add(-c.reset.age).UnixMilli()
		return s.offsetAt(ctx, at.Topic, at.Partition, strconv.FormatInt(max(then, 0), 10))
	case c.reset.at != "":
		return s.offsetAt(ctx, at.Topic, at.Partition, c.reset.at)
	}
	return 0, fault.NoOffsetForPartition.With("group", c.join.GetGroup(), "topic", at.Topic,
		"partition", at.Partition)
}

// stored returns the offsets of the group, if they can be had at the moment.
func (c *consumption) stored() ([]group.Offset, bool) {
	coordinator, err := c.g.coordinator()
	if err != nil {
		return nil, false
	}
	found, err := coordinator.Fetch(c.join.GetGroup(), nil)
	return found, err == nil
}

// openSome opens the partitions that were assigned and are not open, and tells
// the caller. Those that have no leader at the moment are tried again.
func (d *delivery) openSome(ctx context.Context) error {
	if len(d.opening) == 0 || time.Now().Before(d.openAt) {
		return nil
	}
	d.openAt = time.Now().Add(feedRetryPause)
	stored, ok := d.c.stored()
	if !ok {
		return nil // the membership finds out why
	}
	offsets := make(map[group.Place]*int64, len(stored))
	for i := range stored {
		offsets[stored[i].Place] = &stored[i].Offset
	}
	told := &sluicev1.ConsumeAssigned{}
	var places []group.Place
	for at, epoch := range d.opening {
		places = append(places, at)
		told.MemberEpoch = max(told.MemberEpoch, epoch)
	}
	for _, at := range group.NewAssignment(places).Places() {
		start, err := d.c.startAt(ctx, at, offsets[at])
		if err == nil {
			err = d.open(at, start, false)
		}
		if err != nil {
			if err := d.unopened(at, err); err != nil {
				return err
			}
			continue
		}
		delete(d.opening, at)
		told.Partitions = append(told.Partitions, &sluicev1.FetchPosition{
			Topic: at.Topic, Partition: at.Partition, Offset: start,
		})
	}
	if len(told.Partitions) == 0 {
		return nil
	}
	return d.send(&sluicev1.ConsumeResponse{
		Event: &sluicev1.ConsumeResponse_Assigned{Assigned: told},
	})
}

// open begins to read a partition.
func (d *delivery) open(at group.Place, offset int64, paused bool) error {
	source, err := d.c.g.s.openSource(at, offset, d.form)
	if err != nil {
		return err
	}
	f := d.newFeed(at, source, paused)
	d.feeds[at] = f
	d.makeReady(f)
	return nil
}

// unopened returns an error that ends the stream. Others pass: a partition without
// a leader has one soon, and one that is deleted is taken away by the group.
func (d *delivery) unopened(at group.Place, err error) error {
	if passes(err) || errors.Is(fault.From(err), fault.UnknownTopicOrPartition) {
		return nil
	}
	return fmt.Errorf("reading %s-%d: %w", at.Topic, at.Partition, err)
}

// passes reports whether an error says that a partition will be led by someone
// soon.
func passes(err error) bool { return unsent(err) || moved(err) }

// reopen goes on with a partition whose leader has moved, where it was.
func (d *delivery) reopen(
	ctx context.Context, at group.Place, offset int64, paused bool,
) error {
	err := d.open(at, offset, paused)
	if err == nil {
		return nil
	}
	if err := d.unopened(at, err); err != nil {
		return err
	}
	d.waiters.Go(func() {
		timer := time.NewTimer(feedRetryPause)
		defer timer.Stop()
		select {
		case <-timer.C:
			d.post(func(d *delivery) error {
				if d.feeds[at] != nil || !d.c.membership.owns(at) {
					return nil
				}
				return d.reopen(ctx, at, offset, paused)
			})
		case <-ctx.Done():
		}
	})
	return nil
}

// owns reports whether a partition is the member's and is to stay so.
func (m *membership) owns(at group.Place) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.owned.Has(at) && !m.giving.Has(at)
}
