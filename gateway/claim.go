package gateway

import (
	"github.com/sluicelog/sluice/internal/jsonscan"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
)

// claim is what a request or a record says of its place in the log: that of an
// idempotent producer (KIP-98), or the offset that it must get.
type claim struct {
	producer *int64
	epoch    *int32
	sequence *int32
	expected *int64
}

// read reads one of the four fields, by its number.
func (c *claim) read(s *jsonscan.Scanner, field uint) (err error) {
	switch field {
	case 0:
		c.producer, err = int64Of(s)
	case 1:
		c.epoch, err = int32Of(s)
	case 2:
		c.sequence, err = int32Of(s)
	default:
		c.expected, err = int64Of(s)
	}
	return err
}

// put makes it that of a request to the broker.
func (c *claim) put(request *sluicev1.ProduceRequest) {
	request.ProducerId, request.ProducerEpoch = c.producer, c.epoch
	request.BaseSequence, request.ExpectedOffset = c.sequence, c.expected
}
