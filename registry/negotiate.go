package registry

import (
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/sluicelog/sluice/registry/ledger"
)

// mediaTypes are what answers are in, the best first.
var mediaTypes = []string{
	"application/vnd.schemaregistry.v1+json",
	"application/vnd.schemaregistry+json",
	"application/json",
}

// serverQuality is the quality that the registry gives each of mediaTypes.
var serverQuality = []float64{1, 0.9, 0.5}

const octetStream = "application/octet-stream"

// negotiate checks the media types of a request and notes that of its answer.
func (q *request) negotiate() error {
	if hasBody(q.Request) {
		if err := checkContentType(q.Request.Header.Get("Content-Type")); err != nil {
			return err
		}
	}
	media, ok := acceptable(q.Request.Header.Values("Accept"))
	if !ok {
		return ledger.NotAcceptable.With()
	}
	q.media = media
	q.header.Add("Vary", "Accept")
	return nil
}

// hasBody tells whether a request announces a body that may be not empty.
func hasBody(r *http.Request) bool {
	return r.ContentLength != 0 && r.Body != nil && r.Body != http.NoBody
}

// checkContentType refuses bodies in other types. None at all is allowed.
func checkContentType(given string) error {
	if given == "" {
		return nil
	}
	media, parameters, err := mime.ParseMediaType(given)
	charset := strings.ToLower(parameters["charset"])
	known := slices.Contains(mediaTypes, media) || media == octetStream
	if err != nil || !known || charset != "" && charset != "utf-8" && charset != "us-ascii" {
		return ledger.UnsupportedType.With()
	}
	return nil
}

// acceptBytesMax bounds the work that an Accept header causes.
const acceptBytesMax = 4096

// acceptable returns the type that an Accept header prefers (RFC 9110, section
// 12.5.1). A header that is absent or empty takes anything.
func acceptable(accept []string) (string, bool) {
	header := strings.Join(accept, ",")
	if len(header) > acceptBytesMax {
		header = header[:acceptBytesMax]
	}
	if strings.TrimSpace(header) == "" {
		return mediaTypes[0], true
	}
	best, bestQuality := "", 0.0
	for i, offer := range mediaTypes {
		if quality := quality(header, offer) * serverQuality[i]; quality > bestQuality {
			best, bestQuality = offer, quality
		}
	}
	return best, bestQuality > 0
}

// quality returns the quality of the most specific range that a type is in.
func quality(header, offer string) float64 {
	kind, _, _ := strings.Cut(offer, "/")
	most, found := -1, 0.0
	for item := range strings.SplitSeq(header, ",") {
		name, parameters, _ := strings.Cut(item, ";")
		name = strings.ToLower(strings.TrimSpace(name))
		if name == "*" || strings.HasPrefix(name, "*/") {
			name = "*/*" // as Java's servers read what old Java clients send
		}
		specific := slices.Index([]string{"*/*", kind + "/*", offer}, name)
		if specific > most {
			most, found = specific, qualityOf(parameters)
		}
	}
	return found
}

func qualityOf(parameters string) float64 {
	for parameter := range strings.SplitSeq(parameters, ";") {
		key, value, _ := strings.Cut(strings.TrimSpace(parameter), "=")
		if !strings.EqualFold(strings.TrimSpace(key), "q") {
			continue
		}
		q, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
		if err == nil && q >= 0 && q <= 1 {
			return q
		}
	}
	return 1
}
