package server

import (
	"context"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
)

// transactionService serves TransactionService.
type transactionService struct {
	sluicev1.UnimplementedTransactionServiceServer
	s *Server
}

// InitProducer hands out a producer id.
func (t *transactionService) InitProducer(
	ctx context.Context, _ *sluicev1.InitProducerRequest,
) (*sluicev1.InitProducerResponse, error) {
	id, err := t.s.producers.take(ctx)
	if err != nil {
		return nil, err
	}
	return &sluicev1.InitProducerResponse{ProducerId: id}, nil
}

// producerIDs hands out producer ids from blocks that the cluster reserves for
// the node. What is left of a block at a stop is never used.
type producerIDs struct {
	reserve func(context.Context) (first, count int64, err error)
	block   chan idBlock // holds the block while nobody takes from it
}

type idBlock struct{ next, end int64 }

func newProducerIDs(
	reserve func(context.Context) (first, count int64, err error),
) producerIDs {
	p := producerIDs{reserve: reserve, block: make(chan idBlock, 1)}
	p.block <- idBlock{}
	return p
}

// take returns an id that nobody else ever gets.
func (p *producerIDs) take(ctx context.Context) (int64, error) {
	select {
	case b := <-p.block:
		defer func() { p.block <- b }()
		if b.next == b.end {
			first, count, err := p.reserve(ctx)
			if err != nil {
				return 0, err
			}
			b = idBlock{next: first, end: first + count}
		}
		b.next++
		return b.next - 1, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}
