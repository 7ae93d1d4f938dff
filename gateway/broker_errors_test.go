package gateway_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/sluicelog/sluice/internal/fault"
)

// TestErrorsOfTheBrokerHaveTheNumbersOfTheProxy lets the broker refuse everything: the
// rows of Confluent's table that no request is to blame for, in v1, v2 and v3.
func TestErrorsOfTheBrokerHaveTheNumbersOfTheProxy(t *testing.T) {
	f := newFront(t, nil)
	const base = "/v3/clusters/any"
	rows := map[string]struct {
		fault  *fault.Fault
		status int
		code   int
	}{
		"authentication":   {fault.AuthenticationFailed, 401, 40101},
		"authorization":    {fault.AuthorizationFailed, 403, 40301},
		"a Kafka error":    {fault.CorruptLog, 500, 50002},
		"one to try again": {fault.NotLeaderOrFollower, 503, 50003},
		"no broker":        {fault.BrokerNotAvailable, 503, 50302},
		"a quota":          {fault.ThrottlingQuotaExceeded, 429, 42901},
		"a policy":         {fault.PolicyViolation, 400, 40002},
	}
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			f.fail = row.fault
			defer func() { f.fail = nil }()
			for path, media := range map[string]string{
				"/v1/topics/orders/records":   "Content-Type: application/json",
				"/topics/orders":              binary,
				"/topics/orders/partitions/0": binary,
			} {
				answer := f.do(t, http.MethodPost, path, `{"records":[{"value":"YQ=="}]}`, media)
				assert.Equal(t, row.status, answer.status, "%s: %s", path, answer.body)
				code, _ := problemOf(t, answer)
				assert.Equal(t, row.code, code, path)
			}
			for _, path := range []string{"/topics", "/brokers", base + "/brokers"} {
				answer := f.do(t, http.MethodGet, path, "")
				assert.Equal(t, row.status, answer.status, "%s: %s", path, answer.body)
				code, _ := problemOf(t, answer)
				assert.Equal(t, row.code, code, path)
			}
			answer := f.do(t, http.MethodPost, base+"/topics/orders/records",
				`{"value":{"type":"BINARY","data":"YQ=="}}`, "Content-Type: application/json")
			assert.Equal(t, row.status, answer.status, "no stream was opened")
			code, _ := problemOf(t, answer)
			assert.Equal(t, row.code, code)
			if row.status == http.StatusTooManyRequests {
				answer = f.do(t, http.MethodGet, "/topics", "")
				assert.NotEmpty(t, answer.header.Get("Retry-After"))
			}
		})
	}
}
