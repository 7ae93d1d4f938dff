package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime/pprof"
	"strings"
	"time"
)

// profilePath returns where a CPU profile of a process of the measurement goes.
func (j job) profilePath(process string) string {
	name := strings.Map(func(r rune) rune {
		if r == ' ' || r == '/' {
			return '-'
		}
		return r
	}, strings.ReplaceAll(j.System, ",", ""))
	return filepath.Join(j.Profiles, name+"."+process+".pprof")
}

// profileSelf writes a CPU profile of this process until stop is called, if one is
// asked for.
func (j job) profileSelf(process string) (stop func() error, err error) {
	if j.Profiles == "" {
		return func() error { return nil }, nil
	}
	f, err := os.Create(j.profilePath(process))
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, err
	}
	return func() error {
		pprof.StopCPUProfile()
		return f.Close()
	}, nil
}

// profileNode fetches a CPU profile of a node that serves metrics at an address, if
// one is asked for. It takes as long as the job lasts.
func (j job) profileNode(ctx context.Context, metrics string) error {
	if j.Profiles == "" {
		return nil
	}
	url := fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", metrics,
		max(1, int(j.Lasts/time.Second)))
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", url, answer.Status)
	}
	f, err := os.Create(j.profilePath("node"))
	if err != nil {
		return err
	}
	if _, err := io.Copy(f, answer.Body); err != nil {
		return err
	}
	return f.Close()
}
