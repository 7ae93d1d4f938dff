package gateway

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/sluicelog/sluice/gateway/consumer"
	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/internal/jsonscan"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
)

// The tables of the bodies about consumers.
var (
	consumerFields = fieldsOf("name", "id", "format", "auto.offset.reset",
		"auto.commit.enable/enable.auto.commit", "isolation.level",
		"fetch.min.bytes/responseMinBytes", "consumer.request.timeout.ms/requestWaitMs")
	subscriptionFields = fieldsOf("topics", "topic_pattern")
	partitionsFields   = fieldsOf("partitions")
	partitionFields    = fieldsOf("topic", "partition")
	positionsFields    = fieldsOf("offsets", "timestamps")
	offsetFields       = fieldsOf("topic", "partition", "offset", "metadata")
	timestampFields    = fieldsOf("topic", "partition", "timestamp", "metadata")
	commitFields       = fieldsOf("offsets", "partitions")
)

const (
	fetchMinBytesMax      = 10_000_000
	requestTimeoutDefault = time.Second
)

// bodyOf returns the text of a request's body, valid as long as the request.
func bodyOf(r *http.Request) ([]byte, error) {
	b, ok := r.Body.(*body)
	if !ok {
		return nil, errors.New("gateway: a body that openBody did not make")
	}
	return b.all()
}

// isEmpty reports whether a body is absent or null.
func isEmpty(text []byte) bool {
	text = bytes.TrimSpace(text)
	return len(text) == 0 || string(text) == "null"
}

// required is the error of a body that must be there.
func required(fields string) error {
	return fault.Unprocessable.Because("the body is empty; %s is required", fields)
}

// consumerRequest is the body of a request to make a consumer.
type consumerRequest struct {
	name   string
	format string
	config consumer.Config
}

// decodeConsumer reads the body of a request to make a consumer. None at all is
// all defaults.
func decodeConsumer(text []byte) (*consumerRequest, error) {
	request := &consumerRequest{format: "binary", config: consumer.Config{
		AutoCommit: true, FetchBytesMin: -1, RequestTimeout: requestTimeoutDefault,
	}}
	if isEmpty(text) {
		return request, nil
	}
	var id string
	s := jsonscan.New(text)
	err := consumerFields.read(s, func(field uint) error {
		value, err := wordOf(s)
		if err != nil {
			return err
		}
		switch field {
		case 0:
			request.name = value
		case 1:
			id = value
		case 2:
			request.format = value
		default:
			return request.set(consumerFields.name(field), value)
		}
		return nil
	})
	if err == nil {
		err = s.End()
	}
	if id != "" {
		request.name = id
	}
	if err == nil && len(request.name) > consumerNameBytesMax ||
		strings.ContainsFunc(request.name, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		err = fault.Unprocessable.With().At("name", fmt.Sprintf(
			"1 to %d bytes without control characters", consumerNameBytesMax))
	}
	return request, confluentBodyError(err)
}

// set sets a setting of Kafka's consumer.
func (c *consumerRequest) set(name, value string) error {
	refuse := func(code int, message, want string) error {
		return &shaped{
			http.StatusUnprocessableEntity, code, fmt.Sprintf("%s%s is %q, %s", message, name,
				clip(value), want), fault.Unprocessable.With().At(name, want),
		}
	}
	const invalid = "Invalid consumer configuration: "
	switch name {
	case "auto.offset.reset":
		resets := map[string]consumer.Reset{
			"earliest": consumer.ResetEarliest, "smallest": consumer.ResetEarliest,
			"latest": consumer.ResetLatest, "largest": consumer.ResetLatest,
			"none": consumer.ResetNone,
		}
		reset, ok := resets[strings.ToLower(value)]
		if !ok {
			return refuse(42204, invalid, "one of earliest, latest, none")
		}
		c.config.Reset = reset
	case "auto.commit.enable":
		switch strings.ToLower(value) {
		case "true":
			c.config.AutoCommit = true
		case "false":
			c.config.AutoCommit = false
		default:
			return refuse(42204, invalid, "one of true, false")
		}
	case "isolation.level":
		switch strings.ToLower(value) {
		case "read_committed":
			c.config.ReadCommitted = true
		case "read_uncommitted":
		default:
			return refuse(42204, invalid, "one of read_committed, read_uncommitted")
		}
	case "fetch.min.bytes":
		number, err := strconv.ParseInt(value, 10, 64)
		if err != nil || number < -1 || number > fetchMinBytesMax {
			return refuse(40001, outOfConstraints, "at least -1, at most 10000000")
		}
		c.config.FetchBytesMin = int(number)
	case "consumer.request.timeout.ms":
		number, err := strconv.ParseInt(value, 10, 32)
		if err != nil || number < 1 {
			return refuse(40001, outOfConstraints, "at least 1, at most 2147483647")
		}
		c.config.RequestTimeout = time.Duration(number) * time.Millisecond
	}
	return nil
}

const outOfConstraints = "Invalid consumer configuration. It does not abide by the constraints: "

// wordOf reads a string, a number or a boolean: callers write settings as all
// three.
func wordOf(s *jsonscan.Scanner) (string, error) {
	switch s.Kind() {
	case jsonscan.Number, jsonscan.Bool:
		text, err := s.Skip()
		return string(text), err
	}
	text, err := s.Text()
	return string(text), err
}

// decodeSubscription reads topics or a pattern.
func decodeSubscription(text []byte) (topics []string, pattern string, err error) {
	if isEmpty(text) {
		return nil, "", required("topics or topic_pattern")
	}
	s := jsonscan.New(text)
	err = subscriptionFields.read(s, func(field uint) (err error) {
		if field == 1 {
			pattern, err = wordOf(s)
			return err
		}
		topics, err = topicsOf(s)
		return err
	})
	if err == nil {
		err = s.End()
	}
	switch {
	case err != nil:
		return nil, "", err
	case len(topics) > 0 && pattern != "":
		return nil, "", illegalState(consumer.ErrExclusive)
	case len(topics) == 0 && pattern == "":
		return nil, "", fault.Unprocessable.With().At("topics", "or topic_pattern is required")
	case len(pattern) > patternBytesMax:
		return nil, "", fault.InvalidRegularExpression.Because("it has %d bytes, at most %d",
			len(pattern), patternBytesMax)
	}
	if pattern != "" {
		if _, err := regexp.Compile(pattern); err != nil {
			return nil, "", fault.InvalidRegularExpression.With("pattern", clip(pattern)).
				Because("%s", err)
		}
	}
	return topics, pattern, nil
}

func topicsOf(s *jsonscan.Scanner) (topics []string, err error) {
	return topics, eachOf(s, subscribedTopicsMax, func() error {
		name, err := s.Text()
		if err == nil && !isTopicName(string(name)) {
			err = fault.InvalidTopic.With("topic", clip(string(name)))
		}
		topics = append(topics, string(name))
		return err
	})
}

// isTopicName reports whether a topic may be called so.
func isTopicName(name string) bool {
	return topicNames.MatchString(name) && name != "." && name != ".."
}

// eachOf reads an array of at most so many elements.
func eachOf(s *jsonscan.Scanner, most int, read func() error) error {
	if err := s.EnterArray(); err != nil {
		return err
	}
	for count := 0; ; count++ {
		more, err := s.Element()
		if !more || err != nil {
			return err
		}
		if count == most {
			return fault.RequestTooLarge.With("limit", most, "setting", "elements of a list")
		}
		if err := read(); err != nil {
			return within("["+strconv.Itoa(count)+"]", err)
		}
	}
}

// readPartitions reads the body of a request that lists partitions.
func readPartitions(r *http.Request) ([]consumer.Partition, error) {
	text, err := bodyOf(r)
	if err != nil {
		return nil, confluentBodyError(err)
	}
	partitions, err := decodePartitions(text)
	return partitions, confluentBodyError(err)
}

// decodePartitions reads {"partitions":[{"topic":"t","partition":0}]}.
func decodePartitions(text []byte) (partitions []consumer.Partition, err error) {
	if isEmpty(text) {
		return nil, required("partitions")
	}
	s := jsonscan.New(text)
	given := false
	err = partitionsFields.read(s, func(uint) error {
		given = true
		return eachOf(s, assignedCountMax, func() error {
			place, err := placeOf(s, &partitionFields, nil)
			partitions = append(partitions, place)
			return err
		})
	})
	if err == nil {
		err = s.End()
	}
	if err == nil && !given {
		err = fault.Unprocessable.With().At("partitions", "is required")
	}
	return partitions, err
}

// placeOf reads an object whose first two fields are a topic and a partition,
// and hands the others to more.
func placeOf(
	s *jsonscan.Scanner, f *fields, more func(field uint) error,
) (p consumer.Partition, err error) {
	named, numbered := false, false
	err = f.read(s, func(field uint) error {
		switch field {
		case 0:
			name, err := s.Text()
			p.Topic, named = string(name), true
			return err
		case 1:
			number, err := s.Int(32)
			p.Number, numbered = int32(number), true
			return err
		}
		return more(field)
	})
	switch {
	case err != nil:
	case !named:
		err = missing("topic")
	case !numbered:
		err = missing("partition")
	}
	return p, err
}

func missing(field string) error {
	return within(field, errors.New("is required"))
}

// decodePositions reads where to go on: at offsets or times.
func decodePositions(text []byte) (places []consumer.Place, err error) {
	if isEmpty(text) {
		return nil, required("offsets or timestamps")
	}
	s := jsonscan.New(text)
	err = positionsFields.read(s, func(field uint) error {
		return eachOf(s, assignedCountMax, func() error {
			read := seekOffset
			if field == 1 {
				read = seekTime
			}
			place, err := read(s)
			places = append(places, place)
			return err
		})
	})
	if err == nil {
		err = s.End()
	}
	if err == nil && len(places) == 0 {
		err = fault.Unprocessable.With().At("offsets", "or timestamps is required")
	}
	return places, err
}

func seekOffset(s *jsonscan.Scanner) (place consumer.Place, err error) {
	offset, err := offsetIn(s)
	place.Partition = consumer.Partition{Topic: offset.GetTopic(), Number: offset.GetPartition()}
	place.Start = consumer.Start{Kind: consumer.AtOffset, Offset: offset.GetOffset()}
	return place, err
}

// offsetIn reads a partition and an offset in it.
func offsetIn(s *jsonscan.Scanner) (*sluicev1.CommittedOffset, error) {
	o := &sluicev1.CommittedOffset{}
	given := false
	p, err := placeOf(s, &offsetFields, func(field uint) (err error) {
		if field == 3 {
			o.Metadata, err = wordOf(s)
			return err
		}
		given = true
		if o.Offset, err = s.Int(64); err == nil && o.GetOffset() < 0 {
			err = fmt.Errorf("is %d, at least 0", o.GetOffset())
		}
		return err
	})
	if err == nil && !given {
		err = missing("offset")
	}
	o.Topic, o.Partition = p.Topic, p.Number
	return o, err
}

func seekTime(s *jsonscan.Scanner) (place consumer.Place, err error) {
	given := false
	place.Partition, err = placeOf(s, &timestampFields, func(field uint) error {
		if field == 3 {
			_, err := wordOf(s)
			return err
		}
		given = true
		at, err := timeOf(s)
		place.Start = consumer.Start{Kind: consumer.AtTime, Time: at}
		return err
	})
	if err == nil && !given {
		err = missing("timestamp")
	}
	return place, err
}

// timeOf reads a time: RFC 3339, or milliseconds since 1970.
func timeOf(s *jsonscan.Scanner) (time.Time, error) {
	if s.Kind() == jsonscan.Number {
		return timeOfMillis(s)
	}
	return timeOfText(s)
}

// decodeCommit reads what to commit: for each partition the last offset that is
// done with. It returns nil where the body names nothing.
func decodeCommit(text []byte) (offsets []*sluicev1.CommittedOffset, err error) {
	s := jsonscan.New(text)
	err = commitFields.read(s, func(uint) error {
		if offsets != nil {
			return errors.New("excludes offsets")
		}
		offsets = []*sluicev1.CommittedOffset{}
		return eachOf(s, commitCountMax, func() error {
			o, err := offsetIn(s)
			if err == nil && o.GetOffset() == 1<<63-1 {
				err = within("offset", errors.New("is too large: the next one is committed"))
			}
			o.Offset++
			offsets = append(offsets, o)
			return err
		})
	})
	if err == nil {
		err = s.End()
	}
	return offsets, err
}
