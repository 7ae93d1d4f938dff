package gateway_test

import (
	"bufio"
	"io"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluicelog/sluice/tests/contract"
)

// Receipts come at once over HTTP/2 as well, by several streams on a connection.
func TestV3OverHTTP2(t *testing.T) {
	s := serve(t, nil)
	transport := &http.Transport{Protocols: &http.Protocols{}}
	transport.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(transport.CloseIdleConnections)
	d, err := document()
	require.NoError(t, err)
	wire := &contract.Transport{Document: d, Rules: rules, T: t, Base: transport}
	var writers []*io.PipeWriter
	var answers []*bufio.Reader
	for range 3 {
		reader, writer := io.Pipe()
		go func() { _, _ = io.WriteString(writer, `{"value":{"type":"STRING","data":"a"}}`) }()
		answer, err := wire.RoundTrip(streamTo(t, s.url, reader))
		require.NoError(t, err)
		t.Cleanup(func() { answer.Body.Close() })
		assert.Equal(t, "HTTP/2.0", answer.Proto)
		writers, answers = append(writers, writer), append(answers, bufio.NewReader(answer.Body))
	}
	for range 3 {
		for i, lines := range answers {
			line, err := lines.ReadString('\n')
			require.NoError(t, err)
			assert.Contains(t, line, `"error_code":200`)
			_, err = io.WriteString(writers[i], `{"value":{"type":"STRING","data":"b"}}`)
			require.NoError(t, err)
		}
	}
	for i, lines := range answers {
		require.NoError(t, writers[i].Close())
		rest, err := io.ReadAll(lines)
		require.NoError(t, err)
		assert.Contains(t, string(rest), `"error_code":200`)
	}
}
