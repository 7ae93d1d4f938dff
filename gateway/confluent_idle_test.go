package gateway_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluicelog/sluice/gateway"
	"github.com/sluicelog/sluice/tests/node"
)

// BenchmarkIdleConsumers reports what a consumer instance takes that nobody reads,
// in a whole node with nothing else to do: one that was only made, one that has a
// partition assigned, and one that is a member of a group, of ten each. 100,000 members
// send 20,000 heartbeats a second, which is more than a small machine has time for.
func BenchmarkIdleConsumers(b *testing.B) {
	for _, count := range []int{10_000, 100_000} {
		for _, kind := range []string{"made", "assigned", "subscribed"} {
			if kind == "subscribed" && count > 10_000 {
				continue
			}
			b.Run(fmt.Sprintf("count=%d/%s", count, kind), func(b *testing.B) {
				benchIdleConsumers(b, count, kind)
			})
		}
	}
}

func benchIdleConsumers(b *testing.B, count int, kind string) {
	limits := gateway.DefaultLimits()
	limits.ConsumerCountMax = count
	f := wholeWith(b, limits, node.WithSettings(map[string]string{
		"request.max.waiting": strconv.Itoa(2 * count),
	}))
	call := func(path, body string) int {
		request := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
		request.Header.Set("Content-Type", "application/vnd.kafka.v2+json")
		answer := httptest.NewRecorder()
		f.gateway.ServeHTTP(answer, request)
		if answer.Code/100 != 2 {
			b.Error(answer.Body)
		}
		return answer.Code
	}
	add := func(i int) (ok bool) {
		group := fmt.Sprintf("/consumers/g%d", i/10)
		name := fmt.Sprintf("c%d", i)
		if call(group, `{"name":"`+name+`"}`) != http.StatusOK {
			return false
		}
		switch path := group + "/instances/" + name; kind {
		case "assigned":
			return call(path+"/assignments",
				`{"partitions":[{"topic":"orders","partition":0}]}`) == http.StatusNoContent
		case "subscribed":
			return call(path+"/subscription", `{"topics":["orders"]}`) == http.StatusNoContent
		}
		return true
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	goroutines := runtime.NumGoroutine()
	const callers = 16
	var workers sync.WaitGroup
	for w := range callers {
		workers.Go(func() {
			for i := w; i < count; i += callers {
				if !add(i) {
					b.Errorf("instance %d was refused", i)
					return
				}
			}
		})
	}
	workers.Wait()
	runtime.GC()
	runtime.ReadMemStats(&after)
	for b.Loop() { // the figures are of what there is
	}
	require.False(b, b.Failed())
	each := func(before, after uint64) float64 {
		return float64(int64(after)-int64(before)) / float64(count)
	}
	b.ReportMetric(each(before.HeapAlloc, after.HeapAlloc), "heap-B/instance")
	b.ReportMetric(each(before.StackInuse, after.StackInuse), "stack-B/instance")
	b.ReportMetric(float64(runtime.NumGoroutine()-goroutines)/float64(count),
		"goroutines/instance")
	b.ReportMetric(0, "ns/op")
}
