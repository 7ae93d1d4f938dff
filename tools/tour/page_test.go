package main

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestPageIsCutIntoItsBlocks(t *testing.T) {
	blocks := parse("# Title\n```sh serve\nrun\n```\ntext\n```sh\na\nb\n```\n```text\nc\n```\n")
	require.Len(t, blocks, 3)
	assert.True(t, blocks[0].commands() && blocks[0].is("serve"))
	assert.Equal(t, block{line: 7, words: []string{"sh"}, text: "a\nb\n"}, blocks[1])
	_, ok := outputAfter(blocks, 0)
	assert.False(t, ok)
	want, ok := outputAfter(blocks, 1)
	assert.True(t, ok)
	assert.Equal(t, "c\n", want)
}

func TestOutputMatchesWhatThePageShows(t *testing.T) {
	tests := []struct {
		want, got string
		same      bool
	}{
		{"a\n", "a\n", true},
		{"a\n", "a", true},
		{"a\n", "b\n", false},
		{"a\n", "a\nb\n", false},
		{"took ... ms\n", "took 31 ms\n", true},
		{"took ... ms\n", "took 31\nms\n", false},
		{"a\n...\nz\n", "a\nb\nc\nz\n", true},
		{"a\n...\nz\n", "a\nz\n", true},
		{"a\n...\nz\n", "a\nb\n", false},
		{"f(x) [1]\n", "f(x) [1]\n", true},
	}
	for _, test := range tests {
		assert.Equal(t, test.same, matches(test.want, test.got), "%q, %q", test.want, test.got)
	}
}
