package gateway_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluicelog/sluice/gateway"
	"github.com/sluicelog/sluice/tests/node"
)

// A million records of which the last is broken, through a real port: all but that
// one are written and get their receipts, and little is held at any time.
func TestV3AMillionRecordsOfWhichTheLastIsBroken(t *testing.T) {
	count := 1_000_000
	if testing.Short() {
		count = 20_000 // under the race detector
	}
	s := serve(t, nil)
	s.keepNothing = true
	reader, writer := io.Pipe()
	go func() {
		out := bufio.NewWriterSize(writer, 64<<10)
		for range count - 1 {
			_, _ = out.WriteString(`{"value":{"type":"STRING","data":"a"}}`)
		}
		_, _ = out.WriteString(`{"value":{"type":"STRING","data":`)
		_ = out.Flush()
		_ = writer.Close()
	}()
	answer, err := http.DefaultTransport.RoundTrip(streamTo(t, s.url, reader)) // wire keeps it all
	require.NoError(t, err)
	defer answer.Body.Close()
	lines := bufio.NewScanner(answer.Body)
	received, most := 0, uint64(0)
	for lines.Scan() {
		received++
		if received == count {
			assert.True(t, bytes.HasPrefix(lines.Bytes(), []byte(`{"error_code":400,"message":"`)),
				lines.Text())
		} else if !bytes.HasPrefix(lines.Bytes(), []byte(`{"error_code":200,`)) {
			require.Fail(t, "refused", lines.Text())
		}
		if received%(count/20) == 0 {
			most = max(most, liveBytes())
			assert.Less(t, s.gateway.BodyBytes(), int64(1<<20))
		}
	}
	require.NoError(t, lines.Err())
	assert.Equal(t, count, received)
	assert.EqualValues(t, count-1, s.written.Load())
	assert.Less(t, most, uint64(32<<20), "a heap that a stream of 38 MB does not fill")
}

// liveBytes returns what is in use of the heap.
func liveBytes() uint64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

// Each receipt is a chunk of its own, also where several go out together: callers
// take what a chunk holds for one receipt.
func TestV3EachReceiptIsAChunk(t *testing.T) {
	s := serve(t, nil)
	body := strings.Repeat(`{"value":{"type":"STRING","data":"a"}}`, 20) + `{"value":1}`
	conn := rawTo(t, s.address, fmt.Sprintf("POST %s HTTP/1.1\r\nHost: a\r\nContent-Type: "+
		"application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", v3Records,
		len(body), body))
	text, err := io.ReadAll(conn.reader)
	require.NoError(t, err)
	_, rest, _ := strings.Cut(string(text), "\r\n\r\n")
	for i := range 21 {
		var size int
		_, err := fmt.Sscanf(rest, "%x\r\n", &size)
		require.NoError(t, err, rest)
		_, rest, _ = strings.Cut(rest, "\r\n")
		require.Greater(t, len(rest), size+2)
		assert.True(t, json.Valid([]byte(rest[:size])), "chunk %d: %q", i, rest[:size])
		rest = rest[size+2:]
	}
	assert.Equal(t, "0\r\n\r\n", rest)
}

// A record that is the whole body is answered in one piece, however the body came.
func TestV3OneRecordIsOneAnswer(t *testing.T) {
	s := serve(t, nil)
	record := `{"value":{"type":"STRING","data":"a"}}`
	for name, body := range map[string]string{
		"a record": record, "and a line": record + "\r\n", "refused": `{"value":1}`,
		"not JSON": `{"value":`,
	} {
		conn := rawTo(t, s.address, "")
		for range 2 { // the connection can be used again
			head := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"+
				"Content-Length: %d\r\n\r\n", v3Records, len(body))
			_, err := io.WriteString(conn, head+body[:3])
			require.NoError(t, err, name)
			_, err = io.WriteString(conn, body[3:])
			require.NoError(t, err, name)
			answer, err := http.ReadResponse(conn.reader, nil)
			require.NoError(t, err, name)
			text, err := io.ReadAll(answer.Body)
			require.NoError(t, err, name)
			require.NoError(t, answer.Body.Close(), name)
			assert.Equal(t, http.StatusOK, answer.StatusCode, name)
			assert.Empty(t, answer.TransferEncoding, name)
			assert.EqualValues(t, len(text), answer.ContentLength, name)
			assert.Len(t, checked(t, string(text)), 1, name)
		}
	}
}

// A body whose length is known may still be sent as a stream: each receipt comes
// before the next record is sent, and also before what is no record.
func TestV3ABodyOfKnownLengthIsAStream(t *testing.T) {
	s := serve(t, nil)
	pieces := []string{
		`{"value":{"type":"STRING","data":"a"}}`, ` {"value":{"type":"STRING","data":"b"}}`,
		`{"value":1}`, `{"value":{"type":"STRING","data":"c"}}` + "\n", "\n\n]\n   ",
	}
	conn := rawTo(t, s.address, fmt.Sprintf("POST %s HTTP/1.1\r\nHost: a\r\nContent-Type: "+
		"application/json\r\nContent-Length: %d\r\n\r\n", v3Records,
		len(strings.Join(pieces, ""))))
	for i, code := range []int{200, 200, 400, 200, 400} {
		_, err := io.WriteString(conn, pieces[i])
		require.NoError(t, err)
		receipt := conn.until(t, `{"error_code":`)
		assert.Contains(t, receipt, fmt.Sprintf(`{"error_code":%d,`, code), i)
	}
	assert.Equal(t, "\r\n", conn.until(t, "\r\n"))
	assert.Equal(t, "0\r\n", conn.until(t, "0"))
	assert.EqualValues(t, 3, s.written.Load())
}

// wakeful counts the reads that are woken before their time.
type wakeful struct {
	http.ResponseWriter
	woken int
}

// SetReadDeadline is that of a connection.
func (w *wakeful) SetReadDeadline(t time.Time) error {
	if !t.After(time.Now()) {
		w.woken++
	}
	return nil
}

// The end of a stream leaves the connection as it was. After the last byte of a body
// net/http reads on to learn whether the caller is still there: if that read were
// woken, the call that follows on the connection would count as given up.
func TestV3TheEndOfAStreamWakesNoRead(t *testing.T) {
	f := newFront(t, nil)
	const record = `{"value":{"type":"STRING","data":"a"}}`
	for range 2000 {
		body := io.MultiReader(strings.NewReader(record), strings.NewReader(record))
		recorder := httptest.NewRecorder()
		w := &wakeful{ResponseWriter: recorder}
		request := streamTo(t, f.url, body)
		request.ContentLength = -1
		f.gateway.ServeHTTP(w, request)
		require.Equal(t, 2, strings.Count(recorder.Body.String(), `{"error_code":200`))
		require.Zero(t, w.woken)
	}
}

// A caller that sends and does not read its receipts is not read on: what it makes
// the node hold is bounded, and it is cut off after the time that an answer has.
func TestV3ACallerThatReadsNoReceipts(t *testing.T) {
	s := serve(t, func(l *gateway.Limits) { l.WriteTimeout = 300 * time.Millisecond })
	s.keepNothing = true
	conn := rawTo(t, s.address, "POST "+v3Records+" HTTP/1.1\r\nHost: a\r\nContent-Type: "+
		"application/json\r\nContent-Length: 100000000000\r\n\r\n")
	records := []byte(strings.Repeat(`{"value":{"type":"STRING","data":"a"}}`, 1000))
	sent, most := 0, int64(0)
	require.NoError(t, conn.SetWriteDeadline(time.Now().Add(patience)))
	for {
		n, err := conn.Write(records)
		sent += n
		most = max(most, s.gateway.BodyBytes())
		if err != nil {
			assert.NotErrorIs(t, err, os.ErrDeadlineExceeded, "it is cut off")
			break
		}
		require.Less(t, sent, 1<<30, "it is not read on")
	}
	assert.Less(t, most, int64(1<<20))
	require.Eventually(t, func() bool {
		return s.gateway.BodyBytes() == 0 && s.gateway.Streams() == 0
	}, patience, time.Millisecond, "nothing of it is kept")
}

// Records that come together are written together, and each is judged by itself: one
// that the broker refuses takes no other with it, and the order stays.
func TestV3ARefusedRecordTakesNoOtherWithIt(t *testing.T) {
	f := whole(t, node.WithSettings(map[string]string{"message.max.bytes": "4096"}))
	record := func(partition int, value string) string {
		return fmt.Sprintf(`{"partition_id":%d,"value":{"type":"STRING","data":%q}}`, partition,
			value)
	}
	var stream strings.Builder
	var want [2][]string
	var codes []int
	const count = 150 // of which many together are larger than a batch may be
	for i := range count {
		value := fmt.Sprintf("%03d %s", i, strings.Repeat("x", 100))
		switch {
		case i%50 == 13: // too large by itself
			stream.WriteString(record(0, strings.Repeat("y", 5000)))
			codes = append(codes, 413)
		case i%50 == 29:
			stream.WriteString(record(7, value))
			codes = append(codes, 40402)
		case i%50 == 31:
			stream.WriteString(`{"value":{"type":"BINARY","data":"*"}}`)
			codes = append(codes, 400)
		case i%50 == 37: // a request of its own, among others
			stream.WriteString(strings.Replace(record(0, value), "{",
				`{"expected_offset":9999,`, 1))
			codes = append(codes, 409)
		case i%50 == 41:
			stream.WriteString(strings.Replace(record(1, value), "{",
				fmt.Sprintf(`{"expected_offset":%d,`, len(want[1])), 1))
			want[1] = append(want[1], value)
			codes = append(codes, 200)
		default:
			stream.WriteString(record(i%2, value))
			want[i%2] = append(want[i%2], value)
			codes = append(codes, 200)
		}
	}
	list := f.receipts(t, v3Records, stream.String())
	require.Len(t, list, count)
	for i, receipt := range list {
		assert.Equal(t, number(codes[i]), receipt["error_code"], "%d: %v", i, receipt)
	}
	for partition, values := range want {
		assert.Equal(t, values, f.stored(t, partition))
	}
}
