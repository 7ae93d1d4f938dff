package batch

import "fmt"

// Codec is how the records of a batch are compressed, numbered as in the batch's attributes.
type Codec int8

// The codecs that Kafka has.
const (
	None Codec = iota
	Gzip
	Snappy
	LZ4
	Zstd
)

var codecNames = [...]string{None: "none", Gzip: "gzip", Snappy: "snappy", LZ4: "lz4", Zstd: "zstd"}

// String is the codec's name in settings such as compression.type.
func (c Codec) String() string {
	if c.known() {
		return codecNames[c]
	}
	return fmt.Sprintf("unknown(%d)", int8(c))
}

// ParseCodec returns the codec of a name: none, gzip, snappy, lz4 or zstd, in lower case.
func ParseCodec(name string) (Codec, bool) {
	for c, n := range codecNames {
		if n == name {
			return Codec(c), true
		}
	}
	return None, false
}

func (c Codec) known() bool { return c >= None && c <= Zstd }
