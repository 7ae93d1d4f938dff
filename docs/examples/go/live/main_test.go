package main

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// node is a member's node as far as the example is concerned; the guide runs it against a
// real one.
func node(t *testing.T, script ...any) (address string, said chan object) {
	t.Helper()
	said = make(chan object, 10)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		assert.Equal(t, "/v1/groups/g:consume", r.URL.Path)
		assert.Equal(t, "offset_reset=earliest&topic=tower", r.URL.RawQuery)
		conn, err := websocket.Accept(w, r, nil)
		if !assert.NoError(t, err) {
			return
		}
		defer conn.CloseNow()
		for _, message := range script {
			if message == nil { // it is the member's turn
				var m object
				if !assert.NoError(t, wsjson.Read(context.Background(), conn, &m)) {
					return
				}
				said <- m
				continue
			}
			assert.NoError(t, wsjson.Write(context.Background(), conn, message))
		}
		_, _, _ = conn.Read(context.Background()) // until it hangs up
	}))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://"), said
}

func TestTheExampleReadsAndAcknowledges(t *testing.T) {
	address, said := node(t,
		object{"assigned": object{}},
		object{"records": object{
			"topic": "tower", "partition": 0, "next_offset": "2", "records": []object{
				{"offset": "0", "value": "YQ=="}, {"offset": "1", "value": "Yg=="},
			},
		}}, nil,
		object{"committed": object{}},
		object{"revoking": object{}}, nil,
		object{"records": object{
			"topic": "tower", "partition": 1, "next_offset": "8", "records": []object{
				{"offset": "7", "value": "Yw=="},
			},
		}}, nil,
		object{"committed": object{}},
	)
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), &out, address, "g", "tower", 3))
	assert.Equal(t, "tower-0 0: a\ntower-0 1: b\ntower-1 7: c\n", out.String())
	commit := func(partition int, offset string) object {
		return object{"commit": object{"offsets": []any{
			object{"topic": "tower", "partition": float64(partition), "offset": offset},
		}}}
	}
	assert.Equal(t, commit(0, "2"), <-said)
	assert.Equal(t, object{"revoked": object{}}, <-said)
	assert.Equal(t, commit(1, "8"), <-said)
}

func TestTheExampleSaysWhatTheNodeSays(t *testing.T) {
	address, _ := node(t, object{"error": object{"message": "there is no such topic"}})
	err := run(t.Context(), &bytes.Buffer{}, address, "g", "tower", 1)
	require.ErrorContains(t, err, "there is no such topic")
}
