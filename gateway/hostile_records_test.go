package gateway_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluicelog/sluice/gateway"
)

// writers are the ways to write one record in JSON, each with the text in which a
// value stands.
var writers = map[string]struct{ path, media, before, after string }{
	"v1":        {native, "application/json", `{"records":[{"value":`, `}]}`},
	"v2 binary": {"/topics/orders", binaryV2, `{"records":[{"value":`, `}]}`},
	"v2 JSON":   {"/topics/orders", jsonV2, `{"records":[{"value":`, `}]}`},
	"v2 text": {
		"/topics/orders", "application/vnd.kafka.text.v2+json", `{"records":[{"value":`, `}]}`,
	},
	"v3 stream": {v3Records, "application/json", `{"value":{"type":"JSON","data":`, `}}`},
	"v3 stream, type last": {
		v3Records, "application/json", `{"value":{"data":`, `,"type":"JSON"}}`,
	},
	"v3 batch": {
		v3Records + ":batch", "application/json", `{"entries":[{"id":"1","value":{"type":"JSON",` +
			`"data":`, `}}]}`,
	},
}

// post sends a body over a connection of its own to a real port, as it is.
func (s *served) post(t testing.TB, path, media, body string) reply {
	t.Helper()
	return rawTo(t, s.address, fmt.Sprintf("POST %s HTTP/1.1\r\nHost: a\r\nContent-Type: %s\r\n"+
		"Content-Length: %d\r\n\r\n%s", path, media, len(body), body)).answer(t)
}

// Text that is no JSON, or JSON that means two things, is refused on every surface,
// names what is wrong in few words, and reaches no broker.
func TestHostileJSONOnEverySurface(t *testing.T) {
	s := serve(t, nil)
	for name, w := range writers {
		for kind, test := range map[string]struct{ value, want string }{
			"duplicate keys":         {`{"a":1,"b":{},"a":2}`, "twice"},
			"escaped duplicate keys": {`{"a":1,"\u0061":2}`, "twice"},
			"invalid UTF-8":          {"\"a\xffb\"", "UTF-8"},
			"overlong UTF-8":         {"\"\xc0\x80\"", "UTF-8"},
			"invalid UTF-8 in a key": {"{\"\xff\":1}", "UTF-8"},
			"lone surrogate":         {`"\ud83d"`, "surrogate"},
			"swapped surrogates":     {`"\ude00\ud83d"`, "surrogate"},
			"control character":      {"\"a\nb\"", "control character"},
			"depth": {
				strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000), "deeper",
			},
			"10,000 digits and a letter": {
				strings.Repeat("7", 10_000) + "x", "invalid character",
			},
			"half a number": {"1e", "invalid number"},
		} {
			t.Run(name+", "+kind, func(t *testing.T) {
				answer := s.post(t, w.path, w.media, w.before+test.value+w.after)
				if !strings.HasPrefix(name, "v3 stream") {
					assert.Contains(t, []int{400, 422}, answer.status, answer.body)
				}
				assert.Contains(t, answer.body, `"error_code":4`)
				assert.NotContains(t, answer.body, `"offset"`)
				assert.Less(t, len(answer.body), 1500)
				text := strings.HasPrefix(test.value, `"`)
				if strings.Contains(name, "JSON") || strings.HasPrefix(name, "v3") ||
					name == "v2 text" && text {
					assert.Contains(t, answer.body, test.want)
				}
			})
		}
	}
	assert.Zero(t, s.written.Load())
	assert.Zero(t, s.gateway.BodyBytes())
}

// What no value can show where values are base64: names of headers, which are text on
// every surface, and the fields of a record.
func TestHostileFieldsOnEverySurface(t *testing.T) {
	s := serve(t, nil)
	for name, w := range map[string]struct{ path, media, before, header, after string }{
		"v1":        {native, "application/json", `{"records":[{`, "name", `}]}`},
		"v2 binary": {"/topics/orders", binaryV2, `{"records":[{`, "key", `}]}`},
		"v2 JSON":   {"/topics/orders", jsonV2, `{"records":[{`, "key", `}]}`},
		"v3 stream": {v3Records, "application/json", `{`, "name", `}`},
		"v3 batch": {
			v3Records + ":batch", "application/json", `{"entries":[{"id":"1",`, "name", `}]}`,
		},
	} {
		header := func(text string) string {
			return `"headers":[{"` + w.header + `":` + text + `,"value":"YQ=="}]`
		}
		for kind, test := range map[string]struct{ fields, want string }{
			"a field twice":              {`"value":null,"value":null`, "value: occurs twice"},
			"escaped, twice":             {`"value":null,"v\u0061lue":null`, "value: occurs twice"},
			"a header's field twice":     {header(`"a","value":""`), "value: occurs twice"},
			"invalid UTF-8":              {header("\"a\xff\""), "UTF-8"},
			"overlong UTF-8":             {header("\"\xc0\x80\""), "UTF-8"},
			"a surrogate as UTF-8":       {header("\"\xed\xa0\x80\""), "UTF-8"},
			"lone surrogate":             {header(`"\ud83d"`), "surrogate"},
			"control character":          {header("\"a\x00\""), "control character"},
			"a number where text is":     {header("7"), "a number"},
			"no such field":              {`"valeu":null`, "valeu"},
			"what follows is no comment": {`"value":null/**/`, "invalid character '/'"},
		} {
			t.Run(name+", "+kind, func(t *testing.T) {
				answer := s.post(t, w.path, w.media, w.before+test.fields+w.after)
				if name != "v3 stream" {
					assert.Contains(t, []int{400, 422}, answer.status, answer.body)
				}
				assert.Contains(t, answer.body, `"error_code":4`)
				assert.Contains(t, answer.body, test.want)
				assert.NotContains(t, answer.body, `"offset"`)
			})
		}
		answer := s.post(t, w.path, w.media, w.before+header(`"\ud83d\ude00"`)+w.after)
		assert.Contains(t, answer.body, `"offset"`, "%s: a pair is a character", name)
	}
	assert.EqualValues(t, 5, s.written.Load())
	assert.Zero(t, s.gateway.BodyBytes())
}

// A number of 10,000 digits is a value like any other where JSON is taken, to the
// last digit, and no partition, time, sequence or offset.
func TestNumbersOfTenThousandDigits(t *testing.T) {
	s := serve(t, nil)
	digits := strings.Repeat("7", 10_000)
	for name, w := range writers {
		t.Run(name, func(t *testing.T) {
			for _, number := range []string{digits, "-" + digits + "." + digits, "1e" + digits} {
				answer := s.post(t, w.path, w.media, w.before+number+w.after)
				if name == "v1" || name == "v2 binary" || name == "v2 text" {
					assert.Equal(t, 400, answer.status)
					continue
				}
				assert.Contains(t, answer.body, `"offset"`)
				s.mu.Lock()
				got := s.request.GetRecords()[0].Value
				s.mu.Unlock()
				assert.Equal(t, number, string(got), "every digit is kept")
			}
			before := s.written.Load()
			for _, field := range []string{
				"partition", "partition_id", "timestamp", "producer_id", "base_sequence",
				"sequence", "expected_offset",
			} {
				first, rest, _ := strings.Cut(w.before, `"value"`)
				for _, body := range []string{
					first + `"` + field + `":` + digits + `,"value"` + rest + "null" + w.after,
					`{"` + field + `":` + digits + "," + w.before[1:] + "null" + w.after,
				} {
					answer := s.post(t, w.path, w.media, body)
					assert.Contains(t, answer.body, `"error_code":4`)
					assert.Less(t, len(answer.body), 1500)
				}
			}
			assert.Equal(t, before, s.written.Load())
		})
	}
}

// A length and a coding together, and two lengths, are one request at most on every
// surface: nothing in a body is taken for a request of its own.
func TestNothingIsSmuggledOnAnySurface(t *testing.T) {
	s := serve(t, nil)
	for name, w := range writers {
		t.Run(name, func(t *testing.T) {
			const hidden = "DELETE /v1/topics/payments HTTP/1.1\r\nHost: a\r\n\r\n"
			head := "POST " + w.path + " HTTP/1.1\r\nHost: a\r\nContent-Type: " + w.media + "\r\n"
			body := w.before + "null" + w.after
			// By the length what follows four bytes would be the next request; the coding
			// counts, by which the next one is that for /livez, and that is not answered
			// (RFC 9112, sections 6.1 and 6.3).
			both := head + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n"
			conn := rawTo(t, s.address, fmt.Sprintf("%s%x\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n"+
				"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n", both, len(body), body,
				len(hidden), hidden))
			first := conn.answer(t)
			assert.Contains(t, first.body, `"error_code":4`, "it is no JSON as a whole")
			_, err := conn.reader.Peek(1)
			require.ErrorIs(t, err, io.EOF, "the connection ends with the answer")
			answer := rawTo(t, s.address, head+"Content-Length: 4\r\nContent-Length: 5\r\n\r\n"+
				hidden).answer(t)
			assert.Equal(t, http.StatusBadRequest, answer.status)
			answer = s.post(t, w.path, w.media, "0\r\n\r\n"+hidden)
			assert.Contains(t, answer.body, `"error_code":4`, "it is all of one body")
		})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_, there := s.logs["payments"]
	assert.True(t, there)
}

// A header of a megabyte is 431 on every surface, and the next caller is served.
func TestAHeaderOfAMegabyteOnEverySurface(t *testing.T) {
	s := serve(t, nil)
	for name, w := range writers {
		for _, header := range []string{
			"X-Large: " + strings.Repeat("x", 1<<20),
			"Idempotency-Key: " + strings.Repeat("k", 1<<20),
			strings.Repeat("X-Many: x\r\n", 1<<17) + "X: x",
		} {
			conn := rawTo(t, s.address, "")
			go func() { // the node does not read it all
				_, _ = io.WriteString(conn, "POST "+w.path+" HTTP/1.1\r\nHost: a\r\nContent-Type: "+
					w.media+"\r\n"+header+"\r\nContent-Length: 0\r\n\r\n")
			}()
			line, err := conn.reader.ReadString('\n')
			require.NoError(t, err, name)
			assert.True(t, strings.HasPrefix(line, "HTTP/1.1 431"), "%s: %s", name, line)
		}
		answer := s.post(t, w.path, w.media, w.before+"null"+w.after)
		assert.Equal(t, 2, answer.status/100, "%s: %s", name, answer.body)
	}
}

// A body that comes a byte at a time is cut off where it is read as a whole. A
// stream may be that slow: its record is written once it is there, and while it is
// not, the stream holds one buffer.
func TestADrippingCallerOnEverySurface(t *testing.T) {
	s := serve(t, func(l *gateway.Limits) { l.BodyTimeout = 100 * time.Millisecond })
	for name, w := range writers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			body := w.before + "null" + w.after
			stream := strings.HasPrefix(name, "v3 stream")
			length := 100_000
			if stream {
				length = len(body)
			}
			conn := rawTo(t, s.address, fmt.Sprintf("POST %s HTTP/1.1\r\nHost: a\r\nContent-Type: "+
				"%s\r\nContent-Length: %d\r\n\r\n", w.path, w.media, length))
			go func() {
				drip := time.NewTicker(5 * time.Millisecond)
				defer drip.Stop()
				for i := range length {
					<-drip.C
					assert.LessOrEqual(t, s.gateway.BodyBytes(), int64(7*16<<10))
					if _, err := io.WriteString(conn, body[i%len(body):][:1]); err != nil {
						return
					}
				}
			}()
			answer := conn.answer(t)
			if stream {
				assert.Contains(t, answer.body, `"error_code":200`)
			} else {
				assert.Equal(t, http.StatusRequestTimeout, answer.status, answer.body)
			}
		})
	}
}
