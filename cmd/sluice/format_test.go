package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	sluice "github.com/sluicelog/sluice/clients/go"
)

func TestARecordIsWrittenAsTheFormatSays(t *testing.T) {
	r := sluice.Record{
		Topic: "flights", Partition: 3, Offset: 42, Key: []byte("k"), Value: []byte{0xff, 'v'},
		Timestamp: time.UnixMilli(1_767_225_600_123).UTC(),
		Headers:   []sluice.Header{{Key: "a", Value: []byte("1")}, {Key: "b"}},
	}
	tests := map[string]string{
		``:                    "",
		`plain`:               "plain",
		`%t %p %o %k\n`:       "flights 3 42 k\n",
		`%v`:                  "\xffv",
		`%v{hex} %k{base64}`:  "ff76 aw==",
		`%k{oops}`:            "k{oops}",
		`%K/%V`:               "1/2",
		`%T %d`:               "1767225600123 2026-01-01T00:00:00.123Z",
		`%h`:                  "a=1,b=NIL",
		`100%%\t\r\\\x41\0`:   "100%\t\r\\A\x00",
		`{"p":%p,"o":"%o"}\n`: `{"p":3,"o":"42"}` + "\n",
	}
	for format, want := range tests {
		render, err := parseRecordFormat(format, "NIL")
		require.NoError(t, err, format)
		assert.Equal(t, "before"+want, string(render([]byte("before"), &r)), format)
	}
	render, err := parseRecordFormat("%k %v %K", "NIL")
	require.NoError(t, err)
	assert.Equal(t, "NIL NIL -1", string(render(nil, &sluice.Record{})))
}

func TestAWrongFormatIsNamedWithItsPlace(t *testing.T) {
	tests := map[string]string{
		`ab%`:   "character 3: a % at the end",
		`ab\`:   `character 3: a \ at the end`,
		`%o %z`: `character 4: no verb "%z"`,
		`\q`:    `character 1: no escape "\\q"`,
		`\xg1`:  `character 1: no escape "\\x"`,
		`\x1`:   `character 1: no escape "\\x"`,
	}
	for format, want := range tests {
		_, err := parseRecordFormat(format, "")
		assert.ErrorContains(t, err, want, format)
	}
}

func TestWhereToBeginIsRead(t *testing.T) {
	now := time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
	tests := map[string]string{
		"beginning": "beginning", "earliest": "beginning", "start": "beginning",
		"end": "end", "latest": "end", "0": "0", "42": "42",
		"@2026-01-01T00:00:00Z":      "@2026-01-01T00:00:00Z",
		"@2026-01-01T01:00:00+01:00": "@2026-01-01T00:00:00Z",
		"@1767225600000":             "@2026-01-01T00:00:00Z",
		"@-24h":                      "@2026-01-01T00:00:00Z",
	}
	for text, want := range tests {
		from, err := parseFrom(text, now)
		require.NoError(t, err, text)
		assert.Equal(t, want, from.String(), text)
	}
	for _, text := range []string{"", "-1", "@", "@1h", "@-5", "9223372036854775808"} {
		_, err := parseFrom(text, now)
		assert.ErrorContains(t, err, "--from is ", text)
	}
}

// FuzzRecordFormat wants an error or a text of any format, never a panic.
func FuzzRecordFormat(f *testing.F) {
	f.Add(`%t %p %o %k{hex} %v{base64}\n`)
	f.Add(`\x4`)
	f.Fuzz(func(t *testing.T, format string) {
		render, err := parseRecordFormat(format, "null")
		if err == nil {
			render(nil, &sluice.Record{})
		}
	})
}
