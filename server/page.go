package server

import (
	"encoding/base64"
	"fmt"
	"strings"

	"github.com/sluicelog/sluice/internal/fault"
)

// The size of a page of a list.
const (
	pageSizeDefault = 1000
	pageSizeMax     = 10_000
)

// listing is what a list request asks for: at most size items that come after
// one.
type listing struct {
	kind  string // of the list; a token of another one is refused
	size  int
	after string // "" for the first page
}

// newListing reads page_size and page_token.
func newListing(kind string, size int32, token string) (listing, error) {
	l := listing{kind: kind, size: int(min(size, pageSizeMax))}
	if size < 0 {
		return l, fault.InvalidRequest.With().At("page_size",
			fmt.Sprintf("is %d, at least 0", size))
	}
	if size == 0 {
		l.size = pageSizeDefault
	}
	if token == "" {
		return l, nil
	}
	text, err := base64.RawURLEncoding.Strict().DecodeString(token)
	after, ok := strings.CutPrefix(string(text), kind+" ")
	if err != nil || !ok || after == "" {
		return l, fault.InvalidRequest.With().At("page_token",
			"is not one that this list returned")
	}
	l.after = after
	return l, nil
}

// token returns what the next page is asked for with, after an item.
func (l listing) token(last string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(l.kind + " " + last))
}
