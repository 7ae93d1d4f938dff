package gateway

import (
	"net/http"
	"unicode/utf8"

	"github.com/sluicelog/sluice/internal/fault"
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

// decodeV3Batch reads the records of a batch into a group. They have no keys and
// values yet: it returns those, in pairs.
func decodeV3Batch(text []byte, group *recordGroup) ([]v3Datum, error) {
	if isEmpty(text) {
		return nil, batchError("Request body is empty. Data is required.")
	}
	data, err := group.readBatch(text, false)
	if err != nil {
		data, err = group.readBatch(text, true)
	}
	if err == nil {
		err = checkBatch(group.entries)
	}
	return data, err
}

// readBatch reads the records of a batch, see v3Reader.
func (p *recordGroup) readBatch(text []byte, lazy bool) (data []v3Datum, err error) {
	p.clear()
	r := &p.reader
	s := r.reset(text, &v3Shape)
	r.lazy, r.batched = lazy, true
	err = v3BatchFields.read(s, func(uint) error {
		return eachOf(s, recordCountMax, func() error {
			err := p.next(len(p.entries) + 1)
			data = append(data, r.key, r.value)
			return err
		})
	})
	if err == nil {
		err = s.End()
	}
	return data, err
}

func checkBatch(entries []v3Entry) error {
	switch {
	case len(entries) == 0:
		return batchError("Empty batch.")
	case len(entries) > v3BatchCountMax:
		return batchError("Too many entries in batch.")
	}
	for i := range entries {
		id := entries[i].id
		if id == "" || utf8.RuneCountInString(id) > v3BatchIDMax {
			return batchError("Batch entry identifier is not a valid string.")
		}
		for j := range entries[:i] {
			if entries[j].id == id {
				return batchError("Batch entry IDs are not distinct.")
			}
		}
	}
	return nil
}

// v3Batch writes a few records and says of each what became of it.
func (g *Gateway) v3Batch(w *response, r *http.Request, p params) {
	ctx := outgoing(r)
	text, err := bodyOf(r)
	group := newRecordGroup()
	var data []v3Datum
	if err == nil {
		data, err = decodeV3Batch(text, group)
		err = v3BodyError(err)
	}
	writer := v3Writer{g: g, ctx: ctx, topic: p["topic"], part: "entry"}
	if err == nil {
		writer.key, err = keyOf(r.Header)
	}
	cluster := ""
	if err == nil {
		cluster, err = g.clusterID(ctx)
	}
	if err != nil {
		g.fail(w, r, err)
		group.release()
		return
	}
	encoder := g.newV3Encoder(ctx, p["topic"])
	for i := range group.entries {
		group.finish(encoder, &group.entries[i], &data[2*i], &data[2*i+1])
	}
	writer.write(group)
	if group.isReplay() {
		w.Header().Set(headerReplayed, "true")
	}
	successes, failures := []byte(`{"successes":[`), []byte(`],"failures":[`)
	_ = group.receipts(func(entry *v3Entry, outcome v3Outcome) error {
		into := &successes
		if outcome.err != nil {
			into = &failures
		}
		if text := *into; text[len(text)-1] != '[' {
			*into = append(*into, ',')
		}
		*into = append(appendText(append(*into, `{"id":`...), entry.id), ',')
		*into = append(writer.appendReceipt(*into, cluster, entry, outcome), '}')
		return nil
	})
	g.write(w, r, http.StatusMultiStatus, append(append(successes, failures...), "]}"...))
	group.release()
}
