package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
)

// session is one client that reads what it has written, each time by way of any
// node.
type session struct {
	c      *cluster
	ledger *ledger // of sessionTopic
	random *rand.Rand
	end    sessionEnd
}

// sessionEnd is where a client knows a log to end.
type sessionEnd struct{ high int64 }

// saw takes a high watermark or an end that the client was told, and returns what
// is wrong: for one client it never goes back.
func (e *sessionEnd) saw(high int64) error {
	if high < e.high {
		return fmt.Errorf("the log ended at %d, and ends at %d now", e.high, high)
	}
	e.high = high
	return nil
}

// run writes a record and reads it back, over and over, until ctx ends.
func (s *session) run(ctx context.Context) {
	for n := 0; ctx.Err() == nil; n++ {
		payload := fmt.Sprintf("0|0|%d", n)
		offset, ok := s.write(ctx, payload)
		if !ok {
			return
		}
		s.readBack(ctx, offset, payload)
		_ = sleep(ctx, time.Duration(20+s.random.IntN(100))*time.Millisecond)
	}
}

// write writes a record, whatever it takes.
func (s *session) write(ctx context.Context, payload string) (offset int64, ok bool) {
	for deadline := time.Now().Add(settleLimit); ; {
		call, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTime)
		r, err := sluicev1.NewLogServiceClient(s.any().conn).Produce(call,
			&sluicev1.ProduceRequest{
				Topic: sessionTopic, Timeout: durationpb.New(callTime),
				IdempotencyKey: payload,
				Records:        []*sluicev1.ProduceRecord{{Value: []byte(payload)}},
			})
		cancel()
		s.ledger.mu.Lock()
		if err == nil {
			offset = r.GetResults()[0].GetOffset()
			s.ledger.acks = append(s.ledger.acks,
				ack{payload: payload, offset: offset, at: time.Now()})
			s.ledger.mu.Unlock()
			return offset, true
		}
		s.ledger.retries++
		s.ledger.mu.Unlock()
		if !again(err) || time.Now().After(deadline) {
			s.ledger.violation("a client that reads what it has written: %v", err)
			return 0, false
		}
		_ = sleep(context.WithoutCancel(ctx), retryPause)
	}
}

func (s *session) any() *process { return s.c.nodes[s.random.IntN(len(s.c.nodes))] }

// readBack reads a record that was acknowledged. It must come; a leader that does
// not know yet what is committed may say so, or let a reader wait.
func (s *session) readBack(ctx context.Context, offset int64, payload string) {
	for deadline := time.Now().Add(settleLimit); ; {
		call, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTime)
		page, err := sluicev1.NewLogServiceClient(s.any().conn).Fetch(call,
			&sluicev1.FetchRequest{
				Topic: sessionTopic, Offset: offset, MaxRecords: 1,
				MaxWait: durationpb.New(callTime / 2),
			})
		cancel()
		if err == nil {
			if wrong := s.end.saw(page.GetHighWatermark()); wrong != nil {
				s.ledger.violation("a client that reads what it has written: %v", wrong)
			}
			if records := page.GetRecords(); len(records) > 0 {
				if got := string(records[0].GetValue()); got != payload {
					s.ledger.violation("%q was acknowledged at %d, and %q is read there", payload,
						offset, got)
				}
				return
			}
		}
		if time.Now().After(deadline) {
			s.ledger.violation("%q was acknowledged at %d, and is not read in %v: %v", payload,
				offset, settleLimit, err)
			return
		}
		_ = sleep(context.WithoutCancel(ctx), retryPause)
	}
}
