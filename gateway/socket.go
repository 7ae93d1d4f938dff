package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/coder/websocket"

	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/internal/run"
)

// isUpgrade reports whether a request asks for a WebSocket (RFC 6455, section
// 4.1).
func isUpgrade(r *http.Request) bool {
	return hasToken(r.Header.Values("Connection"), "upgrade") &&
		hasToken(r.Header.Values("Upgrade"), "websocket")
}

func hasToken(values []string, token string) bool {
	for _, value := range values {
		for item := range strings.SplitSeq(value, ",") {
			if strings.EqualFold(strings.TrimSpace(item), token) {
				return true
			}
		}
	}
	return false
}

// checkSocket refuses a handshake that no WebSocket can come of, and pages of
// other sites: a browser sends its user's credentials with any page's handshake.
func (g *Gateway) checkSocket(r *http.Request) error {
	switch {
	case !isUpgrade(r):
		return fault.InvalidRequest.Because("the path takes a WebSocket handshake")
	case r.ProtoMajor != 1:
		return fault.InvalidRequest.Because("a WebSocket needs HTTP/1.1")
	case r.Header.Get("Sec-WebSocket-Version") != "13":
		return fault.InvalidRequest.With().At("Sec-WebSocket-Version", "it must be 13")
	case r.Header.Get("Sec-WebSocket-Key") == "":
		return fault.InvalidRequest.With().At("Sec-WebSocket-Key", "required")
	}
	origin := r.Header.Get("Origin")
	if origin == "" {
		return nil // not a browser
	}
	from, err := url.Parse(origin)
	if err == nil && strings.EqualFold(from.Host, r.Host) {
		return nil
	}
	for _, pattern := range g.config.Origins {
		whole, host := origin, ""
		if err == nil {
			host = from.Host
		}
		if !strings.Contains(pattern, "://") {
			whole = host
		}
		if ok, _ := path.Match(strings.ToLower(pattern), strings.ToLower(whole)); ok {
			return nil
		}
	}
	return fault.AuthorizationFailed.Because("pages of %.100q may not open WebSockets here",
		origin)
}

// socket carries a live stream as the text messages of a WebSocket.
type socket struct {
	g    *Gateway
	conn *websocket.Conn
	ctx  context.Context // done once the caller has gone
}

// checkOrigin says what is wrong with an item of Config.Origins: one that is
// mistyped must not look as if it allowed something.
func checkOrigin(pattern string) error {
	host := pattern
	if scheme, rest, found := strings.Cut(pattern, "://"); found && scheme != "" {
		host = rest
	}
	_, err := path.Match(host, "")
	if host == "" || err != nil || strings.ContainsAny(host, "/?# ,@") {
		return fmt.Errorf("origin %q is no host such as app.example.com or *.example.com, "+
			"with or without https:// before it", pattern)
	}
	return nil
}

// openSocket makes a request a WebSocket, which takes messages of at most so
// many bytes. It answers a request that it refuses. The caller must close it.
func (g *Gateway) openSocket(w *response, r *http.Request, bytesMax int64) *socket {
	if err := g.checkSocket(r); err != nil {
		g.fail(w, r, err)
		return nil
	}
	conn, err := websocket.Accept(w.ResponseWriter, r, &websocket.AcceptOptions{
		OriginPatterns: g.config.Origins,
	})
	w.wrote = true // also the answer of one that failed
	if err != nil {
		return nil
	}
	conn.SetReadLimit(bytesMax)
	return &socket{g: g, conn: conn, ctx: r.Context()}
}

// write sends each line as a message.
func (s *socket) write(text []byte) error {
	ctx, cancel := context.WithTimeout(s.ctx, s.g.limits.WriteTimeout)
	defer cancel()
	for line := range bytes.SplitSeq(text, []byte("\n")) {
		if len(line) == 0 {
			continue
		}
		if err := s.conn.Write(ctx, websocket.MessageText, line); err != nil {
			return errCaller
		}
	}
	return nil
}

// flush does nothing: every message is sent at once.
func (s *socket) flush() error { return nil }

// beat sends what is more than a heartbeat, and asks the caller for a sign of
// life (RFC 6455, section 5.5.2).
func (s *socket) beat(text []byte) error {
	if err := s.write(text); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(s.ctx, s.g.limits.WriteTimeout)
	defer cancel()
	if s.conn.Ping(ctx) != nil {
		return errCaller
	}
	return nil
}

// closeTimeout is how long a caller is waited for to answer the close of a
// WebSocket.
const closeTimeout = time.Second

// finish ends the WebSocket, with a code and reason that say why.
func (s *socket) finish(err error) {
	code, reason := websocket.StatusNormalClosure, ""
	switch {
	case err == nil:
	case errors.Is(err, errCaller):
		_ = s.conn.CloseNow() // nobody is there to be told
		return
	case errors.Is(err, errDrained):
		code, reason = websocket.StatusGoingAway, "the node is stopping"
	default:
		status, body, _ := describe(err)
		reason = body.Reason
		switch {
		case status < http.StatusInternalServerError:
			code = websocket.StatusPolicyViolation
		case status == http.StatusServiceUnavailable:
			code = websocket.StatusTryAgainLater
		default:
			code = websocket.StatusInternalError
		}
	}
	give := time.AfterFunc(closeTimeout, func() { _ = s.conn.CloseNow() })
	defer give.Stop()
	_ = s.conn.Close(code, reason) // best effort: it ends in any case
}

// errTalks ends a stream on which the caller sends messages, of which it takes
// none.
var errTalks = fault.InvalidRequest.Because("the stream takes no messages")

// tailSocket sends a live stream over a WebSocket, on which the caller sends
// nothing.
func (g *Gateway) tailSocket(w *response, r *http.Request, l *listener) {
	s := g.openSocket(w, r, 1)
	if s == nil {
		return
	}
	g.sockets.Add(1)
	defer g.sockets.Done()
	tasks := run.New(outgoing(r), "socket")
	defer tasks.Close()
	defer s.conn.CloseNow() //nolint:errcheck // it is closed already but for a panic
	s.ctx = tasks.Context()
	tasks.Go("read", func(ctx context.Context) error {
		if _, _, err := s.conn.Reader(ctx); err != nil {
			return errCaller
		}
		return errTalks
	})
	l.to = s
	err := l.run(s.ctx)
	if errors.Is(tasks.Err(), errTalks) {
		err = errTalks
	} else {
		l.end(s.ctx, err)
	}
	s.finish(err)
}
