package batch

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
	"pgregory.net/rapid"
)

// TestMurmur2IsJavas has the values of testMurmur2 of Kafka's UtilsTest.
func TestMurmur2IsJavas(t *testing.T) {
	for key, want := range map[string]int32{
		"21":                         -973932308,
		"foobar":                     -790332482,
		"a-little-bit-long-string":   -985981536,
		"a-little-bit-longer-string": -1486304829,
		"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
		"abc": 479470107,
	} {
		if got := int32(murmur2([]byte(key))); got != want {
			t.Errorf("%q: %d, want %d", key, got, want)
		}
	}
}

func TestPartitionIsThatOfKafkasClients(t *testing.T) {
	hasher := kgo.KafkaHasher(murmur2)
	client := kgo.StickyKeyPartitioner(nil).ForTopic("t")
	rapid.Check(t, func(t *rapid.T) {
		key := rapid.SliceOfN(rapid.Byte(), 0, 70).Draw(t, "key")
		n := rapid.Int32Range(1, 10_000).Draw(t, "partitions")
		got := Partition(key, n)
		record := &kgo.Record{Key: append([]byte{}, key...)}
		if want := client.Partition(record, int(n)); int(got) != want {
			t.Errorf("%d of %d, want %d", got, n, want)
		}
		if want := hasher(key, int(n)); int(got) != want {
			t.Errorf("%d of %d, hasher says %d", got, n, want)
		}
	})
	for _, n := range []int32{0, -1} {
		if got := Partition([]byte("k"), n); got != -1 {
			t.Errorf("%d of %d partitions", got, n)
		}
	}
}
