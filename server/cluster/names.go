package cluster

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/sluicelog/sluice/internal/fault"
)

const nameBytesMax = 249

// internalPrefix begins the names that the cluster keeps for itself.
const internalPrefix = "__"

// CheckTopicName reports whether a topic may have that name, by Kafka's rules:
// 1 to 249 of a-z, A-Z, 0-9, '.', '_' and '-', and neither "." nor "..". The
// error is fault.InvalidTopic.
func CheckTopicName(name string) error {
	wrong := ""
	switch {
	case name == "":
		wrong = "it is empty"
	case name == "." || name == "..":
		wrong = "it must not be \".\" or \"..\""
	case len(name) > nameBytesMax:
		wrong = fmt.Sprintf("it has %d characters, at most %d", len(name), nameBytesMax)
	default:
		i := strings.IndexFunc(name, func(r rune) bool { return !legal(r) })
		if i < 0 {
			return nil
		}
		_, size := utf8.DecodeRuneInString(name[i:])
		wrong = fmt.Sprintf("the character %q at position %d is not allowed",
			name[i:i+size], i+1)
	}
	return fault.InvalidTopic.With("topic", name).Because("%s", wrong)
}

func legal(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' ||
		r == '.' || r == '_' || r == '-'
}

// metricName is what a topic's name becomes in the names of metrics, where a
// dot is not allowed. Two topics must not share it.
func metricName(name string) string { return strings.ReplaceAll(name, ".", "_") }

// isReserved reports whether the name is kept for the cluster itself.
func isReserved(name string) bool { return strings.HasPrefix(name, internalPrefix) }

func reserved(name string) error {
	return fault.AuthorizationFailed.With("topic", name).Because(
		"topic %s: names that begin with %s belong to the cluster", name, internalPrefix)
}
