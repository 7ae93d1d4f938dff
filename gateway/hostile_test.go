package gateway_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluicelog/sluice/gateway"
)

// A length and a coding together: the coding counts, whatever the length says, and
// nothing that follows is a request (RFC 9112, sections 6.1 and 6.3).
func TestALengthAndACodingTogether(t *testing.T) {
	s := serve(t, nil)
	const body = `{"records":[{"value":"YQ==","partition":0}]}`
	conn := rawTo(t, s.address, fmt.Sprintf("POST /v1/topics/orders/records HTTP/1.1\r\n"+
		"Host: a\r\nContent-Type: application/json\r\nContent-Length: 4\r\n"+
		"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(body), body))
	assert.Equal(t, http.StatusOK, conn.answer(t).status)
	smuggled := "0\r\n\r\nDELETE /v1/topics/orders HTTP/1.1\r\nHost: a\r\n\r\n"
	conn = rawTo(t, s.address, fmt.Sprintf("POST /v1/topics/payments/records HTTP/1.1\r\n"+
		"Host: a\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		len(smuggled), smuggled))
	assert.Equal(t, http.StatusBadRequest, conn.answer(t).status, "it is all of one body")
	assert.Contains(t, s.logs, "orders", "and no request of its own")
	bare := rawTo(t, s.address, "POST /v1/topics HTTP/1.1\r\nHost: a\r\nContent-Type: "+
		"application/json\r\nTransfer-Encoding: chunked\r\n\r\n2\n{}\n0\n\n")
	assert.Equal(t, http.StatusBadRequest, bare.answer(t).status, "a bare line feed ends no chunk")
}

// A body that comes a byte at a time is cut off as one that does not come.
func TestADrippingCallerIsCutOff(t *testing.T) {
	s := serve(t, func(l *gateway.Limits) { l.BodyTimeout = 100 * time.Millisecond })
	conn := rawTo(t, s.address, "POST /v1/topics HTTP/1.1\r\nHost: a\r\nContent-Type: "+
		"application/json\r\nContent-Length: 100000\r\n\r\n")
	go func() {
		drip := time.NewTicker(5 * time.Millisecond)
		defer drip.Stop()
		for range 100_000 {
			<-drip.C
			if _, err := io.WriteString(conn, " "); err != nil {
				return
			}
		}
	}()
	assert.Equal(t, http.StatusRequestTimeout, conn.answer(t).status)
	assert.Equal(t, http.StatusOK,
		rawTo(t, s.address, "GET /livez HTTP/1.1\r\nHost: a\r\n\r\n").answer(t).status)
}

// More connections than there may be wait until one is free.
func TestConnectionsAreBounded(t *testing.T) {
	s := serve(t, func(l *gateway.Limits) { l.ConnectionCountMax = 4 })
	var held []*rawConn
	for range 4 {
		conn := rawTo(t, s.address, "GET /livez HTTP/1.1\r\nHost: a\r\n\r\n")
		assert.Equal(t, http.StatusOK, conn.answer(t).status)
		held = append(held, conn)
	}
	waiting := rawTo(t, s.address, "GET /livez HTTP/1.1\r\nHost: a\r\n\r\n")
	require.NoError(t, waiting.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
	_, err := waiting.reader.Peek(1)
	var timeout net.Error
	require.ErrorAs(t, err, &timeout)
	require.NoError(t, held[0].Close())
	require.NoError(t, waiting.SetReadDeadline(time.Now().Add(time.Minute)))
	waiting.reader = bufio.NewReader(waiting.Conn)
	assert.Equal(t, http.StatusOK, waiting.answer(t).status)
}

func TestHeadersThatCallersMakeUpAreIgnored(t *testing.T) {
	f := newFront(t, nil)
	answer := f.do(t, http.MethodGet, "/v1/topics/orders", "",
		"Grpc-Metadata-Principal: admin", "Grpcgateway-Authorization: admin",
		"X-Forwarded-User: admin", "X-Forwarded-For: 10.0.0.1", "Grpc-Timeout: 1n")
	require.Equal(t, http.StatusOK, answer.status)
	for key, values := range f.seen {
		assert.NotContains(t, strings.Join(values, " "), "admin", key)
		assert.NotContains(t, strings.Join(values, " "), "10.0.0.1", key)
	}
}

// What is wrong with a body is found in every surface that writes records, and
// reaches no broker.
func TestHostileBodiesOnEverySurface(t *testing.T) {
	f := newFront(t, nil)
	paths := map[string]string{
		"/v1/topics/orders/records": "Content-Type: application/json",
		"/topics/orders":            binary,
	}
	bodies := map[string]struct{ body, want string }{
		"10,000 digits": {
			`{"records":[{"partition":` + strings.Repeat("7", 10_000) + `}]}`, "is out of range",
		},
		"1e400":      {`{"records":[{"partition":1e400}]}`, "is not a decimal integer"},
		"minus zero": {`{"records":[{"partition":-0.0}]}`, "is not a decimal integer"},
		"duplicate key": {
			`{"records":[{"value":"","value":""}]}`, "records[0].value: occurs twice",
		},
		"wrong case":      {`{"RECORDS":[]}`, "RECORDS"},
		"invalid UTF-8":   {"{\"records\":[{\"value\":\"\xff\"}]}", "not base64: byte 0xff"},
		"lone surrogate":  {`{"records":[{"value":"\ud800"}]}`, "a lone surrogate"},
		"NUL":             {"{\"records\":[{\"value\":\"\x00\"}]}", `not base64: '\x00'`},
		"byte order mark": {"\ufeff" + `{"records":[{"value":""}]}`, `'\ufeff' where an object`},
		"trailing":        {`{"records":[{"value":""}]}{}`, "after the value"},
		"depth": {
			`{"records":` + strings.Repeat("[", 1_000_000), "records[0]: an array where",
		},
		"million keys":    {`{` + strings.Repeat(`"a":0,`, 1_000_000) + `"b":0}`, "a"},
		"line break":      {`{"records":[{"value":"YQ==\r\n"}]}`, "not base64: a line break"},
		"trailing bits":   {`{"records":[{"value":"YR=="}]}`, "bits are left over"},
		"mixed alphabets": {`{"records":[{"value":"+-+-"}]}`, "of the URL-safe one"},
		"cut short":       {`{"records":[{"value":"YQ==`, "the text ends within a string"},
	}
	for path, media := range paths {
		for name, test := range bodies {
			answer := f.do(t, http.MethodPost, path, test.body, media)
			assert.Contains(t, []int{400, 422}, answer.status, "%s %s: %s", path, name, answer.body)
			_, text := problemOf(t, answer)
			assert.Contains(t, text, test.want, name)
			assert.Less(t, len(text), 500, name)
		}
		many := `{"records":[` + strings.Repeat(`{},`, 1_000_000) + `{}]}`
		assert.Equal(t, http.StatusRequestEntityTooLarge,
			f.do(t, http.MethodPost, path, many, media).status)
	}
	assert.Nil(t, f.request)
	assert.Zero(t, f.gateway.BodyBytes(), "memory returns")
}
