package gateway_test

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// surfaces are the ways to write records: each a path, a type, and the body of a
// request of some values under a claim such as {"producer_id":1,...}, which is
// empty or ends with a comma.
var surfaces = map[string]struct {
	path, media string
	body        func(values []string, partition int, claim func(record int) string) string
}{
	"v1": {"/v1/topics/orders/records", "application/json", func(
		values []string, partition int, claim func(int) string,
	) string { // whose 64-bit integers are strings
		return longs.ReplaceAllString(plainBody(values, partition, claim), `"$1":"$2"`)
	}},
	"v2": {"/topics/orders", binaryV2, plainBody},
	"v3 stream": {v3Records, "application/json", func(
		values []string, partition int, claim func(int) string,
	) string {
		text := ""
		for i, value := range values {
			text += fmt.Sprintf(`{%s"partition_id":%d,"value":{"type":"BINARY","data":%q}}`,
				strings.Replace(claim(i), "base_sequence", "sequence", 1), partition,
				base64.StdEncoding.EncodeToString([]byte(value)))
		}
		return text
	}},
	"v3 batch": {v3Records + ":batch", "application/json", func(
		values []string, partition int, claim func(int) string,
	) string {
		var entries []string
		for i, value := range values {
			entries = append(entries, fmt.Sprintf(
				`{%s"id":"%d","partition_id":%d,"value":{"type":"STRING","data":%q}}`,
				strings.Replace(claim(i), "base_sequence", "sequence", 1), i, partition, value))
		}
		return `{"entries":[` + strings.Join(entries, ",") + `]}`
	}},
}

var longs = regexp.MustCompile(`"(producer_id|expected_offset)":(-?\d+)`)

func plainBody(values []string, partition int, claim func(record int) string) string {
	var records []string
	for _, value := range values {
		records = append(records, fmt.Sprintf(`{"partition":%d,"value":%q}`, partition,
			base64.StdEncoding.EncodeToString([]byte(value))))
	}
	return `{` + claim(0) + `"records":[` + strings.Join(records, ",") + `]}`
}

func noClaim(int) string { return "" }

// places finds where the records of an answer are, on any surface.
var places = regexp.MustCompile(`"partition(?:_id)?":(\d+),"offset":"?(\d+)`)

func placesIn(answer string) (found []string) {
	for _, match := range places.FindAllStringSubmatch(answer, -1) {
		found = append(found, match[1]+":"+match[2])
	}
	return found
}

// A client whose connections break before, during and after the answer sends every
// request again until it has one. On every surface, with a key and with a producer
// id: each record is written once, wholly, and in the client's order; every answer
// says where; and the same request once more gets the same answer, byte for byte.
func TestRetriesOverBrokenConnectionsWriteOnce(t *testing.T) {
	f := whole(t)
	const requests = 12
	var mu sync.Mutex
	where := map[string]string{} // value to partition and offset, as answered
	var clients sync.WaitGroup
	worker := 0
	for name := range surfaces {
		for _, keyed := range []bool{true, false} {
			worker++
			c := &stubborn{
				t: t, f: f, surface: name, number: worker, keyed: keyed,
				random: rand.New(rand.NewPCG(uint64(worker), 7)),
			}
			if !keyed {
				c.producer = f.producer(t)
			}
			clients.Go(func() {
				for i := range requests {
					values := c.values(i)
					found := c.insist(i, values)
					if found == nil {
						return
					}
					mu.Lock()
					for at, value := range values {
						where[value] = found[at]
					}
					mu.Unlock()
				}
			})
		}
	}
	clients.Wait()
	found, last := map[string]string{}, map[string]string{}
	for partition := range 2 {
		for offset, value := range f.stored(t, partition) {
			require.NotContains(t, found, value, "written twice")
			found[value] = fmt.Sprintf("%d:%d", partition, offset)
			client, rest, _ := strings.Cut(value, " ")
			order, _, _ := strings.Cut(rest, " ")
			assert.Less(t, last[client], order, "in the order of client %s", client)
			last[client] = order
		}
	}
	assert.Len(t, found, worker*requests*2)
	assert.Equal(t, where, found, "the answers say where each record is")
}

// producer returns the id of a new producer.
func (f *front) producer(t testing.TB) string {
	t.Helper()
	answer := f.do(t, http.MethodPost, "/v1/producers", `{}`)
	require.Equal(t, http.StatusOK, answer.status, answer.body)
	var made struct {
		ID string `json:"producer_id"`
	}
	require.NoError(t, json.Unmarshal([]byte(answer.body), &made))
	return made.ID
}

// stubborn is a client that sends each request until it has an answer.
type stubborn struct {
	t        *testing.T
	f        *front
	surface  string
	number   int
	keyed    bool   // by an Idempotency-Key
	producer string // else the id
	random   *rand.Rand
}

// values are those of a request: which client's, which of its own, and something
// that is wrong if its memory was used for another.
func (c *stubborn) values(request int) (values []string) {
	for i := range 2 {
		name := fmt.Sprintf("%d %04d ", c.number, 2*request+i)
		values = append(values, name+strings.Repeat(name, c.random.IntN(400)))
	}
	return values
}

// insist returns where the records of a request are.
func (c *stubborn) insist(request int, values []string) []string {
	s := surfaces[c.surface]
	claim, key := noClaim, ""
	if c.keyed {
		key = fmt.Sprintf("Idempotency-Key: %d-%d\r\n", c.number, request)
	} else {
		claim = func(record int) string {
			return fmt.Sprintf(`"producer_id":%s,"producer_epoch":0,"base_sequence":%d,`,
				c.producer, 2*request+record)
		}
	}
	body := s.body(values, c.number%2, claim)
	text := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: %s\r\n%sContent-Length: "+
		"%d\r\n\r\n%s", s.path, s.media, key, len(body), body)
	var answers []string // all that came wholly
	for attempt := range 1000 {
		done := attempt > 20 || len(answers) > 0
		answer, err := breakable(c.random, strings.TrimPrefix(c.f.url, "http://"), text, done)
		if answer.status == http.StatusConflict { // the one before is still being worked on
			continue
		}
		if answer.status != 0 {
			if !assert.Equal(c.t, 2, answer.status/100, answer.body) ||
				!assert.Len(c.t, placesIn(answer.body), 2, answer.body) {
				return nil
			}
			answers = append(answers, answer.body)
		}
		if err == nil && len(answers) > 1 {
			break
		}
	}
	answers = slices.Compact(answers)
	if !assert.Len(c.t, answers, 1, "%s: all answers are the first one", c.surface) {
		return nil
	}
	return placesIn(answers[0])
}

// breakable sends a request over a connection of its own, which breaks somewhere
// on the way there or back, or does not.
func breakable(random *rand.Rand, address, request string, whole bool) (reply, error) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return reply{}, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return reply{}, err
	}
	fate := random.IntN(5)
	if whole {
		fate = 4
	}
	if fate == 0 { // before all of it is there
		request = request[:random.IntN(len(request))]
	}
	if _, err := io.WriteString(conn, request); err != nil {
		return reply{}, err
	}
	if fate <= 1 { // while it is worked on
		return reply{}, io.ErrClosedPipe
	}
	var from io.Reader = conn
	if fate == 2 { // within the answer
		from = io.LimitReader(conn, random.Int64N(200))
	}
	answer, err := http.ReadResponse(bufio.NewReader(from), nil)
	if err != nil {
		return reply{}, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return reply{}, err
	}
	if fate == 3 { // with the answer there, but not acted on
		err = io.ErrClosedPipe
	}
	return reply{status: answer.StatusCode, header: answer.Header, body: string(text)}, err
}

// What a record claims of its place is held on every surface, and where it does not
// get the place the answer says where the log ends.
func TestAnExpectedOffsetOnEverySurface(t *testing.T) {
	for name, s := range surfaces {
		t.Run(name, func(t *testing.T) {
			f := whole(t)
			at := func(offset int) func(int) string {
				return func(record int) string {
					return fmt.Sprintf(`"expected_offset":%d,`, offset+record)
				}
			}
			media := "Content-Type: " + s.media
			body := s.body([]string{"a", "b"}, 1, at(0))
			answer := f.do(t, http.MethodPost, s.path, body, media)
			require.Equal(t, []string{"1:0", "1:1"}, placesIn(answer.body), answer.body)
			body = s.body([]string{"c"}, 1, at(5))
			answer = f.do(t, http.MethodPost, s.path, body, media)
			if strings.HasPrefix(name, "v3") {
				assert.Contains(t, answer.body, `"error_code":409,"message":"expected_offset is 5,`+
					` but the next offset is 2.","end_offset":2}`)
			} else {
				assert.Equal(t, http.StatusConflict, answer.status, answer.body)
				assert.Contains(t, answer.body, `"reason":"OFFSET_MISMATCH"`)
				assert.Contains(t, answer.body, `"end_offset":"2"`)
			}
			assert.Equal(t, "2", f.end(t, 1))
			if name == "v3 batch" {
				return // which says of one entry what is wrong with it
			}
			answer = f.do(t, http.MethodPost, s.path, s.body([]string{"c"}, 1, at(-1)), media)
			assert.Contains(t, answer.body, "expected_offset")
			assert.Contains(t, answer.body, "400", "%d", answer.status)
		})
	}
}

// A producer's sequence is held on every surface.
func TestAProducersSequenceOnEverySurface(t *testing.T) {
	for name, s := range surfaces {
		t.Run(name, func(t *testing.T) {
			f := whole(t)
			id := f.producer(t)
			from := func(epoch, sequence int) func(int) string {
				return func(record int) string {
					return fmt.Sprintf(`"producer_id":%s,"producer_epoch":%d,"base_sequence":%d,`,
						id, epoch, sequence+record)
				}
			}
			post := func(claim func(int) string, values ...string) reply {
				return f.do(t, http.MethodPost, s.path, s.body(values, 0, claim),
					"Content-Type: "+s.media)
			}
			first := post(from(0, 0), "a", "b")
			require.Equal(t, []string{"0:0", "0:1"}, placesIn(first.body), first.body)
			again := post(from(0, 0), "a", "b")
			assert.Equal(t, first.body, again.body)
			if name != "v3 stream" { // whose header is sent before
				assert.Equal(t, "true", again.header.Get("Idempotency-Replayed"))
			}
			refused := post(from(0, 7), "c")
			assert.Contains(t, refused.body, "sent sequence 7 where 2 follows")
			for sequence := 2; sequence < 8; sequence++ {
				answer := post(from(0, sequence), "x")
				require.Len(t, placesIn(answer.body), 1, answer.body)
			}
			forgotten := post(from(0, 0), "a", "b")
			assert.Empty(t, placesIn(forgotten.body), forgotten.body)
			assert.Contains(t, forgotten.body, "409")
			lacking := post(func(int) string { return `"producer_id":` + id + `,` }, "a")
			assert.Contains(t, lacking.body, "producer_epoch", lacking.body)
			assert.Empty(t, placesIn(lacking.body))
			assert.Equal(t, "8", f.end(t, 0))
		})
	}
}

// The same request with the same key gets the same answer from every node, whoever
// leads the partition, and another request is refused by all of them.
func TestARepeatedRequestThroughOtherNodes(t *testing.T) {
	_, fronts, _ := clusterFronts(t)
	answer := fronts[0].do(t, http.MethodPost, "/v1/topics",
		`{"topic":"orders","partition_count":3}`)
	require.Equal(t, http.StatusOK, answer.status, answer.body)
	for name, s := range surfaces {
		for partition := range 3 {
			body := s.body([]string{"a", "b"}, partition, noClaim)
			other := s.body([]string{"a", "x"}, partition, noClaim)
			first := ""
			for i, f := range fronts {
				post := func(body string) reply {
					return f.do(t, http.MethodPost, s.path, body, "Content-Type: "+s.media,
						fmt.Sprintf("Idempotency-Key: %s %d", name, partition))
				}
				require.Eventually(t, func() bool {
					answer = post(body)
					return len(placesIn(answer.body)) == 2
				}, patience, 10*time.Millisecond, "%s: %s", name, answer.body)
				if i == 0 {
					first = answer.body
				}
				assert.Equal(t, first, answer.body, "%s through node %d", name, i)
				refused := post(other)
				assert.Contains(t, refused.body, "422", "%s: %s", name, refused.body)
				assert.Less(t, len(placesIn(refused.body)), 2)
			}
		}
	}
	for partition := range 3 {
		assert.Equal(t, strconv.Itoa(2*len(surfaces)), fronts[1].end(t, partition))
	}
}
