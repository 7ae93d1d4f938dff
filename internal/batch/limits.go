package batch

import "math"

// Limits bounds what a batch may hold and what decoding it may cost. A field that is 0 or less
// means its default, so that Limits{MaxBatchBytes: n} changes that one only.
type Limits struct {
	// MaxBatchBytes is the largest batch that Check accepts, header included and compressed as it
	// is: message.max.bytes or max.message.bytes. Default 1,048,588, Kafka's.
	MaxBatchBytes int
	// MaxDecompressedBytes is the most that the records may become when decompressed; decoding
	// stops there. Default 33,554,432 (32 MiB).
	MaxDecompressedBytes int
	// MaxRecords is the number of records that Check accepts in a batch. Default 262,144, more
	// than fit uncompressed into a batch of the default size.
	MaxRecords int
	// MaxKeyBytes is the largest record key that Check accepts. Default 65,536.
	MaxKeyBytes int
	// MaxHeaders is the number of headers that Check accepts on a record, and Records decodes.
	// Default 64.
	MaxHeaders int
	// MaxHeaderBytes is the largest header, key and value together, that Check accepts. Default
	// 8,192.
	MaxHeaderBytes int
}

// DefaultLimits returns the limits that a broker has unless its settings say otherwise.
func DefaultLimits() Limits {
	return Limits{
		MaxBatchBytes:        1<<20 + prefixBytes,
		MaxDecompressedBytes: 32 << 20,
		MaxRecords:           1 << 18,
		MaxKeyBytes:          64 << 10,
		MaxHeaders:           64,
		MaxHeaderBytes:       8 << 10,
	}
}

// StoredLimits returns limits for batches that a broker has accepted, maybe under larger limits
// than those of today: they bound nothing that settings can allow.
func StoredLimits() Limits {
	return Limits{MaxDecompressedBytes: math.MaxInt32, MaxHeaders: math.MaxInt32}
}

// filled returns l with its unset fields at their defaults.
func (l Limits) filled() Limits {
	d := DefaultLimits()
	return Limits{
		MaxBatchBytes:        positive(l.MaxBatchBytes, d.MaxBatchBytes),
		MaxDecompressedBytes: positive(l.MaxDecompressedBytes, d.MaxDecompressedBytes),
		MaxRecords:           positive(l.MaxRecords, d.MaxRecords),
		MaxKeyBytes:          positive(l.MaxKeyBytes, d.MaxKeyBytes),
		MaxHeaders:           positive(l.MaxHeaders, d.MaxHeaders),
		MaxHeaderBytes:       positive(l.MaxHeaderBytes, d.MaxHeaderBytes),
	}
}

func positive(n, otherwise int) int {
	if n > 0 {
		return n
	}
	return otherwise
}

// CheckRecord checks a record that is about to be encoded against l, as Check does with a batch
// that a client has encoded: the sizes of its key and headers and its timestamp. Errors: *Error
// of kind TooLarge for a size and of kind Invalid for the timestamp.
func CheckRecord(r Record, l Limits) error {
	l = l.filled()
	if err := l.checkKey(len(r.Key)); err != nil {
		return err
	}
	if err := l.checkHeaders(len(r.Headers)); err != nil {
		return err
	}
	for _, h := range r.Headers {
		if err := l.checkHeader(len(h.Key) + len(h.Value)); err != nil {
			return err
		}
	}
	if r.Timestamp < NoTimestamp {
		return invalid("timestamp", r.Timestamp, "0 or more, or -1 for none")
	}
	return nil
}

func (l Limits) checkKey(size int) *Error {
	if size > l.MaxKeyBytes {
		return tooLarge("key size", size, "at most %d bytes", l.MaxKeyBytes)
	}
	return nil
}

func (l Limits) checkHeaders(count int) *Error {
	if count > l.MaxHeaders {
		return tooLarge("header count", count, "at most %d", l.MaxHeaders)
	}
	return nil
}

func (l Limits) checkHeader(size int) *Error {
	if size > l.MaxHeaderBytes {
		return tooLarge("header size", size, "at most %d bytes", l.MaxHeaderBytes)
	}
	return nil
}
