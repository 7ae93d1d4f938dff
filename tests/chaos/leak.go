package chaos

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"time"
)

// usage is what a process holds.
type usage struct {
	files, goroutines int
	residentBytes     int64
}

// What a process may hold more than before it was broken, as caches fill and
// connections come up.
const (
	filesMore      = 100
	goroutinesMore = 400
	residentMore   = 512 << 20
)

var (
	residentLine  = regexp.MustCompile(`(?m)^VmRSS:\s+(\d+) kB`)
	goroutineLine = regexp.MustCompile(`(?m)^go_goroutines (\d+)`)
)

// usage measures a process.
func (p *process) usage(ctx context.Context) (u usage, err error) {
	proc := filepath.Join("/proc", strconv.Itoa(p.pid()))
	files, err := os.ReadDir(filepath.Join(proc, "fd"))
	if err != nil {
		return u, err
	}
	u.files = len(files)
	status, err := os.ReadFile(filepath.Join(proc, "status"))
	if err != nil {
		return u, err
	}
	resident, err := number64(residentLine, status)
	if err != nil {
		return u, err
	}
	u.residentBytes = resident << 10
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.http+"/metrics",
		nil)
	if err != nil {
		return u, err
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return u, err
	}
	defer response.Body.Close()
	metrics, err := io.ReadAll(response.Body)
	if err != nil {
		return u, err
	}
	goroutines, err := number64(goroutineLine, metrics)
	u.goroutines = int(goroutines)
	return u, err
}

func number64(line *regexp.Regexp, text []byte) (int64, error) {
	found := line.FindSubmatch(text)
	if found == nil {
		return 0, fmt.Errorf("no line like %v", line)
	}
	return strconv.ParseInt(string(found[1]), 10, 64)
}

// grown returns what a process holds more of than it may.
func grown(node int, before, after usage) (broken []string) {
	if after.files > before.files+filesMore {
		broken = append(broken, fmt.Sprintf("node %d had %d files open before the faults, and %d "+
			"after", node, before.files, after.files))
	}
	if after.goroutines > before.goroutines+goroutinesMore {
		broken = append(broken, fmt.Sprintf("node %d had %d goroutines before the faults, and %d "+
			"after", node, before.goroutines, after.goroutines))
	}
	if after.residentBytes > before.residentBytes+residentMore {
		broken = append(broken, fmt.Sprintf("node %d held %d MiB before the faults, and %d MiB "+
			"after", node, before.residentBytes>>20, after.residentBytes>>20))
	}
	return broken
}

// usages measures all nodes.
func (c *cluster) usages(ctx context.Context) ([]usage, error) {
	var all []usage
	for _, p := range c.nodes {
		u, err := p.usage(ctx)
		if err != nil {
			return nil, fmt.Errorf("measuring node %d: %w", p.id, err)
		}
		all = append(all, u)
	}
	return all, nil
}

// shrunk waits until all nodes hold no more than they may, for quietTime at most,
// and returns what they hold then.
func (c *cluster) shrunk(ctx context.Context, before []usage) (
	after []usage, broken []string, err error,
) {
	for deadline := time.Now().Add(quietTime); ; {
		if after, err = c.usages(ctx); err != nil {
			return nil, nil, err
		}
		broken = nil
		for i := range after {
			broken = append(broken, grown(i, before[i], after[i])...)
		}
		if len(broken) == 0 || time.Now().After(deadline) {
			return after, broken, nil
		}
		if err := sleep(ctx, time.Second); err != nil {
			return nil, nil, err
		}
	}
}

const quietTime = 30 * time.Second
