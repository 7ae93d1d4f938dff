package gateway

import (
	"net/http"
	"sync"

	"google.golang.org/protobuf/proto"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
)

// intake is the memory of one request to produce, from its text to its answer.
// It is used again for the next one, so that a request allocates in proportion
// to its records only what the broker does.
type intake struct {
	request sluicev1.ProduceRequest
	records recordReader
	answer  []byte
}

var intakes = sync.Pool{New: func() any { return &intake{} }}

// pooledRecordsMax keeps a few requests of very many records from filling the
// pool.
const pooledRecordsMax = 2048

func newIntake() *intake {
	in, _ := intakes.Get().(*intake)
	return in
}

// release gives the memory back. The broker must be done with the request: it
// is, once a call has returned without an error; after one, drop the intake.
func (in *intake) release() {
	if in.records.isLarge() || cap(in.answer) > pooledBytesMax {
		return
	}
	in.records.reset(nil, nil)
	proto.Reset(&in.request)
	in.answer = in.answer[:0]
	intakes.Put(in)
}

// produceNative appends the records of POST /v1/topics/{topic}/records. It does
// what the generated code would, without its cost.
func (g *Gateway) produceNative(w *response, r *http.Request, p params) {
	b, _ := r.Body.(*body)
	text, err := b.all()
	in := newIntake()
	if err == nil && len(text) > 0 {
		err = asFault(decodeProduce(text, &in.request, &in.records))
	}
	if err == nil && in.request.GetTopic() != "" {
		err = p.agrees(in.request.ProtoReflect())
	}
	if err != nil {
		in.release()
		g.fail(w, r, err)
		return
	}
	in.request.Topic = p["topic"]
	answer, err := g.produceOnce(w, r, &in.request, text)
	if err != nil {
		g.fail(w, r, err)
		return
	}
	in.answer = appendProduceResponse(in.answer, answer)
	g.write(w, r, http.StatusOK, in.answer)
	in.release()
}
