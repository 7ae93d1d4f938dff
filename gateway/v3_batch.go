package gateway

import (
	"net/http"
	"unicode/utf8"

	"google.golang.org/grpc/status"

	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/internal/jsonscan"

	spb "google.golang.org/genproto/googleapis/rpc/status"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
)

const (
	// v3BatchCountMax is how many records a batch may hold.
	v3BatchCountMax = 10
	// v3BatchIDMax is how many characters the id of one may have.
	v3BatchIDMax = 80
	// batchErrorCode is the number of a batch that breaks a rule.
	batchErrorCode = 42208
)

var v3BatchFields = fieldsOf("entries")

// batchError is the error of a batch that breaks a rule.
func batchError(message string) error {
	return &shaped{
		http.StatusUnprocessableEntity, batchErrorCode, message,
		fault.Unprocessable.Because("%s", message),
	}
}

// decodeV3Batch reads the records of a batch.
func decodeV3Batch(text []byte) (records []*v3Record, err error) {
	if isEmpty(text) {
		return nil, batchError("Request body is empty. Data is required.")
	}
	s := jsonscan.New(text)
	err = v3BatchFields.read(s, func(uint) error {
		return eachOf(s, recordCountMax, func() error {
			record, err := v3RecordIn(s, true)
			records = append(records, record)
			return err
		})
	})
	if err == nil {
		err = s.End()
	}
	if err != nil {
		return nil, err
	}
	return records, checkBatch(records)
}

func checkBatch(records []*v3Record) error {
	switch {
	case len(records) == 0:
		return batchError("Empty batch.")
	case len(records) > v3BatchCountMax:
		return batchError("Too many entries in batch.")
	}
	seen := map[string]bool{}
	for _, r := range records {
		if r.id == nil || *r.id == "" || utf8.RuneCountInString(*r.id) > v3BatchIDMax {
			return batchError("Batch entry identifier is not a valid string.")
		}
		if seen[*r.id] {
			return batchError("Batch entry IDs are not distinct.")
		}
		seen[*r.id] = true
	}
	return nil
}

// v3Batch writes a few records and says of each what became of it.
func (g *Gateway) v3Batch(w *response, r *http.Request, p params) {
	text, err := bodyOf(r)
	var records []*v3Record
	if err == nil {
		records, err = decodeV3Batch(text)
	}
	if err != nil {
		g.fail(w, r, v3BodyError(err))
		return
	}
	ctx := outgoing(r)
	key, err := keyOf(r.Header)
	if err != nil {
		g.fail(w, r, err)
		return
	}
	cluster, err := g.clusterID(ctx)
	if err != nil {
		g.fail(w, r, err)
		return
	}
	successes, failures := []byte(`{"successes":[`), []byte(`],"failures":[`)
	encoder := g.newV3Encoder(ctx, p["topic"])
	for _, record := range records {
		ready := encoder.encode(record)
		var result *sluicev1.ProduceResult
		err := ready.err
		if err == nil {
			var answer *sluicev1.ProduceResponse
			answer, err = g.streams.Produce(ctx, &sluicev1.ProduceRequest{
				Topic: p["topic"], Acks: sluicev1.Acks_ACKS_ALL,
				Records:        []*sluicev1.ProduceRecord{ready.record},
				IdempotencyKey: partOfKey(key, "entry "+*ready.id),
			})
			if err == nil {
				result, err = resultOf(answer, nil)
			}
		}
		if err != nil {
			failures = beginEntry(failures, ready)
			failures = append(appendRefusal(failures, err), '}')
			continue
		}
		successes = beginEntry(successes, ready)
		successes = append(ready.receipt(successes, cluster, p["topic"], result), '}')
	}
	g.write(w, r, http.StatusMultiStatus, append(append(successes, failures...), "]}"...))
}

// beginEntry writes the beginning of what became of a record.
func beginEntry(dst []byte, ready *v3Ready) []byte {
	if dst[len(dst)-1] != '[' {
		dst = append(dst, ',')
	}
	dst = append(dst, `{"id":`...)
	return append(appendText(dst, *ready.id), ',')
}

// resultOf returns where the one record of a produce is, or why it is nowhere.
func resultOf(
	answer *sluicev1.ProduceResponse, failed *spb.Status,
) (*sluicev1.ProduceResult, error) {
	if failed != nil {
		return nil, status.FromProto(failed).Err()
	}
	if len(answer.GetResults()) != 1 {
		return nil, fault.UnknownServerError
	}
	result := answer.GetResults()[0]
	if result.GetError() != nil {
		return nil, status.FromProto(result.GetError()).Err()
	}
	return result, nil
}
