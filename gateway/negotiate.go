package gateway

import (
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/sluicelog/sluice/internal/fault"
)

const typeJSON = "application/json"

// negotiate checks the media types of a request against those of its route and
// notes which one answers it.
func (r *route) negotiate(request *http.Request) error {
	if r.consumes != nil && hasBody(request) {
		if err := checkContentType(request.Header, r.consumes); err != nil {
			return err
		}
	}
	if r.produces == nil {
		return nil
	}
	media, ok := choose(request.Header.Values("Accept"), r.produces)
	if !ok {
		return fault.NotAcceptable.Because("the path answers with %s",
			strings.Join(r.produces, ", "))
	}
	callOf(request).media = media
	return nil
}

// hasBody reports whether a request announces a body that may be not empty.
func hasBody(r *http.Request) bool {
	return r.ContentLength != 0 && r.Body != nil && r.Body != http.NoBody
}

// checkContentType returns the error of a body in none of the types.
func checkContentType(header http.Header, supported []string) error {
	given := header.Get("Content-Type")
	media, parameters, err := mime.ParseMediaType(given)
	charset := strings.ToLower(parameters["charset"])
	switch {
	case given == "":
		return fault.PayloadUnsupported.Because("there is no Content-Type; the path takes %s",
			strings.Join(supported, ", "))
	case err != nil || !slices.Contains(supported, media):
		return fault.PayloadUnsupported.Because("Content-Type is %.100q; the path takes %s",
			given, strings.Join(supported, ", "))
	case charset != "" && charset != "utf-8" && charset != "utf8" && charset != "us-ascii":
		return fault.PayloadUnsupported.Because("charset is %.40q; the path takes utf-8", charset)
	}
	return nil
}

// mediaRange is an item of an Accept header.
type mediaRange struct {
	kind, subtype string
	quality       float64
}

// choose returns the type, of those offered, that an Accept header prefers (RFC
// 9110, section 12.5.1): the best quality, then the first offered. A header
// that is absent, empty or unreadable takes anything.
func choose(accept []string, offered []string) (string, bool) {
	ranges := parseAccept(accept)
	if len(ranges) == 0 {
		return offered[0], true
	}
	best, quality := "", 0.0
	for _, offer := range offered {
		if q := qualityOf(ranges, offer); q > quality {
			best, quality = offer, q
		}
	}
	return best, quality > 0
}

// acceptBytesMax bounds the work that an Accept header causes.
const acceptBytesMax = 4096

func parseAccept(accept []string) []mediaRange {
	text := strings.Join(accept, ",")
	if len(text) > acceptBytesMax {
		text = text[:acceptBytesMax]
	}
	var ranges []mediaRange
	for item := range strings.SplitSeq(text, ",") {
		name, rest, _ := strings.Cut(item, ";")
		name = strings.ToLower(strings.TrimSpace(name))
		if name == "*" {
			name = "*/*" // as some HTTP libraries write it
		}
		kind, subtype, ok := strings.Cut(name, "/")
		if !ok {
			continue
		}
		entry := mediaRange{kind: kind, subtype: subtype, quality: 1}
		for parameter := range strings.SplitSeq(rest, ";") {
			key, value, _ := strings.Cut(strings.TrimSpace(parameter), "=")
			if strings.EqualFold(strings.TrimSpace(key), "q") {
				q, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
				if err == nil && q >= 0 && q <= 1 {
					entry.quality = q
				}
			}
		}
		ranges = append(ranges, entry)
	}
	return ranges
}

// qualityOf returns the quality of the most specific range that a type is in.
func qualityOf(ranges []mediaRange, offer string) float64 {
	kind, subtype, _ := strings.Cut(offer, "/")
	best, quality := -1, 0.0
	for _, entry := range ranges {
		specific := 0
		switch {
		case entry.kind != "*" && entry.kind != kind:
			continue
		case entry.subtype == "*":
		case entry.subtype == subtype:
			specific = 2
		default:
			continue
		}
		if entry.kind != "*" {
			specific++
		}
		if specific > best {
			best, quality = specific, entry.quality
		}
	}
	return quality
}

// acceptedEncoding returns the content coding for an answer: zstd, gzip or "".
func acceptedEncoding(header http.Header) string {
	best, quality := "", 0.0
	text := strings.Join(header.Values("Accept-Encoding"), ",")
	if len(text) > acceptBytesMax {
		return ""
	}
	for item := range strings.SplitSeq(text, ",") {
		name, rest, _ := strings.Cut(item, ";")
		name = strings.ToLower(strings.TrimSpace(name))
		if name != "gzip" && name != "zstd" {
			continue
		}
		q := 1.0
		if value, ok := strings.CutPrefix(strings.ReplaceAll(rest, " ", ""), "q="); ok {
			var err error
			if q, err = strconv.ParseFloat(value, 64); err != nil {
				continue
			}
		}
		if q > quality || q == quality && name == "zstd" {
			best, quality = name, q
		}
	}
	if quality <= 0 {
		return ""
	}
	return best
}
