package storage

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
)

// appendForEver appends from a few goroutines and prints each answer, as
// readAll would show it, until it is killed.
func appendForEver(t *testing.T, dir string) {
	s, err := Open(context.Background(), testConfig(dir))
	if err != nil {
		t.Fatal(err)
	}
	p := createTest(t, s, 0)
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := 0; ; i++ {
				text := fmt.Sprintf("%d-%d-%s", w, i, strings.Repeat(".", i%7*500))
				a, err := p.Append(context.Background(), AppendRequest{
					Batch: spec{text: text}.encode(t),
				})
				if err != nil {
					t.Error(err)
					return
				}
				fmt.Fprintf(os.Stdout, "%d:%.20s\n", a.BaseOffset, text)
			}
		})
	}
	wg.Wait()
}

// readLines returns whole lines, up to a number or to the end.
func readLines(in *bufio.Reader, limit int) []string {
	var lines []string
	for len(lines) < limit {
		line, err := in.ReadString('\n')
		if err != nil {
			return lines
		}
		lines = append(lines, strings.TrimSuffix(line, "\n"))
	}
	return lines
}
