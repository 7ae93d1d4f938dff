package batch

import (
	"fmt"
	"testing"
)

// benchRecords are 100 records of 1 KiB of JSON each, as in a producer's batch.
func benchRecords() []Record {
	records := make([]Record, 100)
	for i := range records {
		value := make([]byte, 0, 1024)
		for n := i; len(value) < 950; n += 7919 {
			value = fmt.Appendf(value, `{"flight":"SL%d","delay":%d,"gate":"%c%d"},`,
				n*31%9973, n*n%181, 'A'+n%6, n%90)
		}
		records[i] = Record{
			Offset: int64(i), Timestamp: sampleTime + int64(i),
			Key: fmt.Appendf(nil, "key-%03d", i), Value: value,
		}
	}
	return records
}

func bytesOf(records []Record) (n int64) {
	for _, r := range records {
		n += int64(len(r.Key) + len(r.Value))
	}
	return n
}

func BenchmarkEncode(b *testing.B) {
	records := benchRecords()
	for _, c := range codecs {
		b.Run(c.String(), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(bytesOf(records))
			var dst []byte
			for b.Loop() {
				var err error
				if dst, err = Encode(dst[:0], records, with(c)); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(bytesOf(records))/float64(len(dst)), "ratio")
		})
	}
}

func BenchmarkCheck(b *testing.B) {
	records := benchRecords()
	for _, c := range codecs {
		b.Run(c.String(), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(bytesOf(records))
			encoded := encode(b, records, with(c))
			for b.Loop() {
				if _, err := Check(encoded, Limits{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkRecords(b *testing.B) {
	records := benchRecords()
	for _, c := range codecs {
		b.Run(c.String(), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(bytesOf(records))
			encoded := encode(b, records, with(c))
			for b.Loop() {
				for _, err := range Records(encoded, Limits{}) {
					if err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}

func BenchmarkPartition(b *testing.B) {
	key := []byte("customer-0123456789")
	for b.Loop() {
		Partition(key, 12)
	}
}
