package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"

	"github.com/sluicelog/sluice/internal/batch"
	"github.com/sluicelog/sluice/storage"
)

// storageWork does the job on a store of its own, one partition, every append
// synced, and prints the result: sluice's storage layer with nothing around it.
func storageWork(args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("usage: storage DIR JOB")
	}
	var j job
	if err := json.Unmarshal([]byte(args[1]), &j); err != nil {
		return err
	}
	ctx := context.Background()
	cfg := storage.DefaultConfig()
	cfg.Dir, cfg.BallastBytes = args[0], 0
	cfg.Logger = slog.New(slog.DiscardHandler)
	store, err := storage.Open(ctx, cfg)
	if err != nil {
		return err
	}
	id := storage.PartitionID{Topic: storage.TopicID{1}}
	log, err := store.Create(ctx, id, storage.DefaultPartitionConfig())
	if err != nil {
		return err
	}
	var producers []send
	for i := range j.Producers {
		encoded, err := encode(nil, values(j, i))
		if err != nil {
			return err
		}
		producers = append(producers, func(ctx context.Context) error {
			_, err := log.Append(ctx, storage.AppendRequest{Batch: encoded})
			return err
		})
	}
	r, records, err := load(ctx, j, cfg.Dir, os.Getpid(), producers)
	if err != nil {
		return err
	}
	if got := int(log.End()); got != records {
		return fmt.Errorf("%d records were answered, the log ends at %d", records, got)
	}
	if err := r.footprint(j, os.Getpid(), cfg.Dir, records); err != nil {
		return err
	}
	if err := store.Close(); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}

// encode appends a RecordBatch v2 of values to dst.
func encode(dst []byte, values [][]byte) ([]byte, error) {
	records := make([]batch.Record, len(values))
	for i, value := range values {
		records[i] = batch.Record{Timestamp: 1, Value: value}
	}
	return batch.Encode(dst, records, batch.DefaultEncodeOptions())
}
