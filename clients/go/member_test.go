package sluice_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	sluice "github.com/sluicelog/sluice/clients/go"
	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/internal/batch"
	"github.com/sluicelog/sluice/internal/fault"
)

func TestAMemberReadsWhatItIsGivenAndCommitsWhatItGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, g, client := startGroup(t, 3)
		for p := range 3 {
			f.fill(t, p, 10, 3, batch.None)
		}
		g.give, g.committed[1] = []int32{0, 1}, 4
		j := &journal{}
		consumer := subscribed(t, client, j, sluice.WithAutoCommit(time.Hour))
		assert.Equal(t, map[int32][]string{0: numbers(10), 1: numbers(10)[4:]},
			pollFor(t, consumer, time.Second))
		assert.Equal(t, []string{"assigned t-0 t-1"}, j.all())

		// Only what moves is given up; the rest is not read again.
		g.assign(1, 2)
		assert.Equal(t, map[int32][]string{2: numbers(10)}, pollFor(t, consumer, time.Second))
		assert.Equal(t, []string{"assigned t-0 t-1", "revoked t-0", "assigned t-2"}, j.all())
		assert.Equal(t, map[int32]int64{0: 10, 1: 4}, g.committed)
		assert.Equal(t, []int32{1, 2}, claims(g.lastBeat()))

		require.NoError(t, consumer.Close())
		assert.Equal(t, map[int32]int64{0: 10, 1: 10, 2: 10}, g.committed)
		assert.Equal(t, "revoked t-1 t-2", j.all()[3])
		assert.Equal(t, int32(-1), g.lastBeat().GetMemberEpoch())
	})
}

// TestWhatIsBeingReadIsAlwaysClaimed changes the assignment at every moment: no heartbeat may say
// that something is free which the program still works on.
func TestWhatIsBeingReadIsAlwaysClaimed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, g, client := startGroup(t, 4)
		for p := range 4 {
			f.fill(t, p, 50, 1, batch.None)
		}
		j := &journal{}
		working := map[int32]bool{}
		var consumer *sluice.Consumer
		g.onBeat = func() error {
			beat := g.beats[len(g.beats)-1]
			if beat.GetMemberEpoch() > 0 {
				for p := range working {
					assert.Contains(t, claims(beat), p)
				}
			}
			return nil
		}
		consumer = subscribed(t, client, j, sluice.WithMaxPollRecords(1),
			sluice.WithOnAssigned(func(
				_ context.Context, _ *sluice.Consumer, got []sluice.TopicPartition,
			) {
				g.mu.Lock()
				defer g.mu.Unlock()
				for _, p := range got {
					working[p.Partition] = true
				}
			}),
			sluice.WithOnRevoked(func(
				_ context.Context, _ *sluice.Consumer, gone []sluice.TopicPartition,
			) {
				time.Sleep(50 * time.Millisecond) // a program that takes its time
				g.mu.Lock()
				defer g.mu.Unlock()
				for _, p := range gone {
					delete(working, p.Partition)
				}
			}))
		for i := range 200 {
			g.assign(int32(i%4), int32((i/2)%4))
			pollFor(t, consumer, time.Duration(i%7)*10*time.Millisecond)
		}
		require.NoError(t, consumer.Close())
	})
}

func TestAFencedMemberLosesEverythingAndJoinsAgain(t *testing.T) {
	for _, reason := range []error{
		fault.FencedMemberEpoch.With("group", "g"), fault.UnknownMemberID.With("group", "g"),
	} {
		synctest.Test(t, func(t *testing.T) {
			f, g, client := startGroup(t, 1)
			f.fill(t, 0, 6, 3, batch.None)
			g.give = []int32{0}
			j := &journal{}
			consumer := subscribed(t, client, j, sluice.WithAutoCommit(time.Hour),
				sluice.WithMaxPollRecords(1))
			records, err := consumer.Poll(t.Context())
			require.NoError(t, err)
			assert.Equal(t, "0", string(records[0].Value))
			g.fail(reason)
			synctest.Wait()
			assert.Equal(t, numbers(6), pollFor(t, consumer, time.Second)[0],
				"from what was committed: nothing")
			assert.Equal(t, []string{"assigned t-0", "lost t-0", "assigned t-0"}, j.all())
			assert.Empty(t, g.commits)
			require.NoError(t, consumer.Close())
		})
	}
}

func TestAMemberThatHearsNothingForItsSessionGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, g, client := startGroup(t, 1)
		f.fill(t, 0, 3, 3, batch.None)
		g.give = []int32{0}
		j := &journal{}
		consumer := subscribed(t, client, j)
		pollFor(t, consumer, time.Second)
		g.mu.Lock()
		g.onBeat = func() error { return fault.CoordinatorNotAvailable.With("group", "g") }
		g.mu.Unlock()
		pollFor(t, consumer, 8*time.Second)
		assert.Equal(t, []string{"assigned t-0"}, j.all(), "not yet")
		pollFor(t, consumer, 8*time.Second)
		assert.Equal(t, []string{"assigned t-0", "lost t-0"}, j.all())
		g.mu.Lock()
		g.onBeat = nil
		g.mu.Unlock()
		pollFor(t, consumer, 3*time.Second)
		assert.Equal(t, "assigned t-0", j.all()[2])
		require.NoError(t, consumer.Close())
	})
}

func TestAMemberWhoseCoordinatorHangsGivesUpInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, g, client := startGroup(t, 1)
		g.give = []int32{0}
		j := &journal{}
		consumer := subscribed(t, client, j)
		pollFor(t, consumer, time.Second)
		g.set(func() { g.hangs = true })
		pollFor(t, consumer, 14*time.Second)
		assert.Equal(t, []string{"assigned t-0", "lost t-0"}, j.all(),
			"within the session timeout of 10 s, from the last answer on")
		g.set(func() { g.hangs = false })
		require.NoError(t, consumer.Close())
	})
}

func TestAProgramThatDoesNotPollIsNoMember(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, g, client := startGroup(t, 1)
		f.fill(t, 0, 3, 3, batch.None)
		g.give = []int32{0}
		j := &journal{}
		consumer := subscribed(t, client, j, sluice.WithMaxPollInterval(time.Minute))
		pollFor(t, consumer, time.Second)
		time.Sleep(59 * time.Second)
		synctest.Wait()
		assert.Positive(t, g.lastBeat().GetMemberEpoch())
		time.Sleep(10 * time.Second)
		synctest.Wait()
		assert.Equal(t, int32(-1), g.lastBeat().GetMemberEpoch(), "it has left")
		time.Sleep(time.Hour)
		pollFor(t, consumer, 5*time.Second)
		assert.Equal(t, []string{"assigned t-0", "lost t-0", "assigned t-0"}, j.all())
		require.NoError(t, consumer.Close())
	})
}

func TestALoopThatIsSlowWithEachRecordStaysAMember(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, g, client := startGroup(t, 1)
		f.fill(t, 0, 20, 20, batch.None)
		g.give = []int32{0}
		j := &journal{}
		consumer := subscribed(t, client, j, sluice.WithMaxPollInterval(time.Minute))
		count := 0
		for _, err := range consumer.Records(t.Context()) {
			require.NoError(t, err)
			time.Sleep(30 * time.Second)
			if count++; count == 20 {
				break
			}
		}
		assert.Equal(t, []string{"assigned t-0"}, j.all())
		require.NoError(t, consumer.Close())
	})
}

func TestAStaticMemberComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, g, client := startGroup(t, 1)
		g.give = []int32{0}
		refused := 0
		g.onBeat = func() error {
			if refused++; refused < 5 {
				return fault.UnreleasedInstanceID.With("group", "g", "instance_id", "i")
			}
			return nil
		}
		j := &journal{}
		consumer := subscribed(t, client, j, sluice.WithInstanceID("i"))
		pollFor(t, consumer, 10*time.Second)
		assert.Equal(t, []string{"assigned t-0"}, j.all())
		require.NoError(t, consumer.Close())
		assert.Equal(t, int32(-2), g.lastBeat().GetMemberEpoch())
		assert.Equal(t, "i", g.lastBeat().GetInstanceId())
	})
}

func TestWhatEndsAMembershipIsTheErrorOfPoll(t *testing.T) {
	for _, reason := range []*fault.Error{
		fault.InvalidRegularExpression.With("pattern", "("), fault.FencedInstanceID.With(),
		fault.GroupMaxSizeReached.With("group", "g", "count", 1, "setting", "group.max.size"),
		fault.UnreleasedInstanceID.With("group", "g"),
	} {
		synctest.Test(t, func(t *testing.T) {
			_, g, client := startGroup(t, 1)
			g.onBeat = func() error { return reason }
			consumer, err := client.NewConsumer(sluice.WithGroup("g"))
			require.NoError(t, err)
			require.NoError(t, consumer.SubscribePattern("("))
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			for range 2 {
				_, err = consumer.Poll(ctx)
				assert.ErrorIs(t, err, reason.Fault)
			}
			require.NoError(t, consumer.Close())
		})
	}
}

func TestCommitsHappenInOrderAndSurviveTheCoordinatorsAbsence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, g, client := startGroup(t, 2)
		f.fill(t, 0, 10, 5, batch.None)
		g.give = []int32{0, 1}
		consumer := subscribed(t, client, &journal{}, sluice.WithAutoCommit(0))
		pollFor(t, consumer, time.Second)
		away := 0
		g.set(func() {
			g.onCommit = func() error {
				if away++; away < 5 {
					return fault.CoordinatorNotAvailable.With("group", "g")
				}
				return nil
			}
		})
		var done []int64
		for offset := range int64(8) {
			consumer.CommitAsync(func(o []sluice.CommitOffset, err error) {
				assert.NoError(t, err)
				done = append(done, o[0].Offset)
			}, sluice.CommitOffset{Topic: "t", Offset: offset})
		}
		require.NoError(t, consumer.Commit(t.Context()))
		assert.Equal(t, []int64{0, 1, 2, 3, 4, 5, 6, 7}, done)
		assert.Equal(t, int64(10), g.committed[0], "the later call wins")
		assert.Less(t, len(g.commits), 8, "those that waited went together")

		// The group has changed, and the member still owns the partition.
		g.set(func() { g.epoch++ })
		require.NoError(t, consumer.CommitRecords(t.Context(),
			sluice.Record{Topic: "t", Offset: 1}, sluice.Record{Topic: "t"}))
		assert.Equal(t, int64(2), g.committed[0])

		g.set(func() {
			g.gone = map[int32]error{1: fault.UnknownTopicOrPartition.With("topic", "t")}
		})
		err := consumer.Commit(t.Context(), sluice.CommitOffset{Topic: "t", Partition: 1},
			sluice.CommitOffset{Topic: "t", Offset: 7})
		assert.ErrorIs(t, err, sluice.ErrUnknownTopicOrPartition)
		assert.Equal(t, int64(7), g.committed[0], "the others are stored all the same")

		g.set(func() {
			unsure := map[int32]error{1: fault.BrokerNotAvailable.Because("etcd is away")}
			g.onCommit = func() error {
				g.gone, unsure = unsure, nil // the first time only
				return nil
			}
		})
		require.NoError(t, consumer.Commit(t.Context(), sluice.CommitOffset{
			Topic: "t", Partition: 1, Offset: 5,
		}))
		assert.Equal(t, int64(5), g.committed[1], "what may pass is tried again")

		g.set(func() {
			g.onCommit = func() error { return fault.UnknownMemberID.With("group", "g") }
		})
		assert.ErrorIs(t, consumer.Commit(t.Context(),
			sluice.CommitOffset{Topic: "t", Offset: 8}), sluice.ErrUnknownMemberID)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		g.set(func() {
			g.onCommit = func() error { return fault.CoordinatorNotAvailable.With("group", "g") }
		})
		assert.ErrorIs(t, consumer.Commit(ctx, sluice.CommitOffset{Topic: "t"}),
			context.Canceled)
		require.NoError(t, consumer.Close())
	})
}

// TestACommitOfAFormerTimeIsNotStored lets a commit wait for the coordinator while the member is
// taken for dead, joins again and is given the same partition: another member may have gone on
// from an earlier offset meanwhile.
func TestACommitOfAFormerTimeIsNotStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, g, client := startGroup(t, 1)
		f.fill(t, 0, 10, 10, batch.None)
		g.give = []int32{0}
		consumer := subscribed(t, client, &journal{}, sluice.WithAutoCommit(0))
		pollFor(t, consumer, time.Second)
		g.mu.Lock()
		g.onCommit = func() error { return fault.CoordinatorNotAvailable.With("group", "g") }
		g.mu.Unlock()
		outcome := make(chan error, 1)
		consumer.CommitAsync(func(_ []sluice.CommitOffset, err error) { outcome <- err })
		synctest.Wait()
		g.fail(fault.UnknownMemberID.With("group", "g"))
		assert.Equal(t, numbers(10), pollFor(t, consumer, time.Second)[0])
		g.mu.Lock()
		g.onCommit = nil
		g.mu.Unlock()
		assert.ErrorIs(t, <-outcome, sluice.ErrStaleMemberEpoch)
		assert.Empty(t, g.committed)
		require.NoError(t, consumer.Commit(t.Context()))
		assert.Equal(t, int64(10), g.committed[0])
		require.NoError(t, consumer.Close())
	})
}

// TestPartitionsAreGivenUpAfterTheCommitsOnTheirWay: a commit must not arrive when the partition
// is somebody else's.
func TestPartitionsAreGivenUpAfterTheCommitsOnTheirWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, g, client := startGroup(t, 1)
		f.fill(t, 0, 10, 10, batch.None)
		g.give = []int32{0}
		j := &journal{}
		consumer := subscribed(t, client, j, sluice.WithAutoCommit(0),
			sluice.WithOnRevoked(func(
				_ context.Context, c *sluice.Consumer, _ []sluice.TopicPartition,
			) {
				j.add("revoked")
				c.CommitAsync(func(_ []sluice.CommitOffset, err error) {
					assert.NoError(t, err)
					j.add("committed")
				})
			}))
		pollFor(t, consumer, time.Second)
		away := 8
		g.mu.Lock()
		g.onBeat = func() error {
			if r := g.beats[len(g.beats)-1]; r.GetMemberEpoch() > 0 && len(claims(r)) == 0 {
				j.add("given up")
			}
			return nil
		}
		g.onCommit = func() error {
			if away--; away > 0 {
				return fault.CoordinatorNotAvailable.With("group", "g")
			}
			return nil
		}
		g.mu.Unlock()
		g.assign()
		pollFor(t, consumer, time.Second)
		pollFor(t, consumer, time.Minute)
		assert.Equal(t, []string{"assigned t-0", "revoked", "committed", "given up"},
			j.all()[:4])
		require.NoError(t, consumer.Close())
	})
}

func TestAPollThatWaitsCommitsWhatCameBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, g, client := startGroup(t, 1)
		f.fill(t, 0, 10, 10, batch.None)
		g.give = []int32{0}
		consumer := subscribed(t, client, &journal{}, sluice.WithAutoCommit(5*time.Second))
		ctx, cancel := context.WithTimeout(t.Context(), 6*time.Second)
		defer cancel()
		_, err := consumer.Poll(ctx)
		require.NoError(t, err)
		_, err = consumer.Poll(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		synctest.Wait()
		g.set(func() { assert.Equal(t, int64(10), g.committed[0]) })
		require.NoError(t, consumer.Close())
	})
}

func TestTooManyPendingCommitsAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, g, client := startGroup(t, 1)
		g.onCommit = func() error { return fault.CoordinatorNotAvailable.With("group", "g") }
		consumer, err := client.NewConsumer(sluice.WithGroup("g"))
		require.NoError(t, err)
		refused, ended := 0, 0
		consumer.CommitAsync(nil, sluice.CommitOffset{Topic: "t"})
		synctest.Wait()
		for range 2000 {
			consumer.CommitAsync(func(_ []sluice.CommitOffset, err error) {
				if errors.Is(err, sluice.ErrCommitsPending) {
					refused++
				}
				ended++
			}, sluice.CommitOffset{Topic: "t"})
		}
		assert.Equal(t, 1000, refused)
		require.NoError(t, consumer.Close())
		assert.Equal(t, 2000, ended, "each is told")
	})
}

func TestWithoutAnOffsetAndAReset(t *testing.T) {
	f, g, client := startGroup(t, 2)
	f.fill(t, 0, 3, 3, batch.None)
	f.fill(t, 1, 3, 3, batch.None)
	g.give = []int32{0}
	consumer := subscribed(t, client, &journal{}, sluice.WithoutOffsetReset())
	for range 2 {
		_, err := consumer.Poll(t.Context())
		require.ErrorIs(t, err, sluice.ErrNoOffsetForPartition)
	}
	require.NoError(t, consumer.Seek(t.Context(), "t", 0, sluice.At(1)))
	records, err := consumer.Poll(t.Context())
	require.NoError(t, err)
	assert.Equal(t, int64(1), records[0].Offset)
	require.NoError(t, consumer.Close())
	assert.Equal(t, int64(3), g.committed[0])
}

func TestAnOffsetThatTheLogLostIsReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, g, client := startGroup(t, 1)
		f.fill(t, 0, 30, 3, batch.None) // record n at n ms since 1970
		f.partitions[0].start = 20
		for name, test := range map[string]struct {
			reset sluice.Offset
			want  int64
		}{
			"beginning": {sluice.Beginning(), 20},
			"an offset": {sluice.At(21), 21},
			"a time":    {sluice.Since(time.UnixMilli(25)), 25},
			"long ago":  {sluice.Ago(0), 27},
		} {
			if name == "long ago" {
				test.reset = sluice.Ago(time.Since(time.UnixMilli(27)))
			}
			g.give, g.committed[0] = []int32{0}, 5
			consumer := subscribed(t, client, &journal{}, sluice.WithAutoCommit(0),
				sluice.WithOffsetReset(test.reset), sluice.WithMaxPollRecords(1))
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			records, err := consumer.Poll(ctx)
			cancel()
			require.NoError(t, err, name)
			require.Len(t, records, 1, name)
			assert.Equal(t, test.want, records[0].Offset, name)
			require.NoError(t, consumer.Close())
		}
	})
}

func TestPauseResumeAndSeek(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, client := startFake(t, "t", 2)
		f.fill(t, 0, 10, 2, batch.None)
		f.fill(t, 1, 10, 2, batch.None)
		consumer, err := client.NewConsumer(sluice.WithMaxPollRecords(1))
		require.NoError(t, err)
		require.NoError(t, consumer.AssignTopics(t.Context(), sluice.Beginning(), "t"))
		zero := sluice.TopicPartition{Topic: "t"}
		for {
			records, err := consumer.Poll(t.Context())
			require.NoError(t, err)
			if records[0].Partition == 0 {
				break
			}
		}
		require.NoError(t, consumer.Pause(zero))
		paused := pollFor(t, consumer, time.Second)
		assert.Empty(t, paused[0])
		assert.True(t, consumer.Positions()[0].Paused)
		require.NoError(t, consumer.Resume(zero))
		assert.Equal(t, numbers(10)[1:], pollFor(t, consumer, time.Second)[0], "none is lost")
		require.NoError(t, consumer.Seek(t.Context(), "t", 1, sluice.At(7)))
		assert.Equal(t, numbers(10)[7:], pollFor(t, consumer, time.Second)[1])
		require.NoError(t, consumer.Seek(t.Context(), "t", 0, sluice.Beginning()))
		require.NoError(t, consumer.Pause(zero))
		require.NoError(t, consumer.Seek(t.Context(), "t", 0, sluice.At(9)))
		assert.Empty(t, pollFor(t, consumer, time.Second), "still paused")
		require.NoError(t, consumer.Resume(zero))
		assert.Equal(t, []string{"9"}, pollFor(t, consumer, time.Second)[0])
		other := sluice.TopicPartition{Topic: "t", Partition: 7}
		assert.ErrorIs(t, consumer.Pause(zero, other), sluice.ErrNotAssigned)
		assert.False(t, consumer.Positions()[0].Paused, "none is paused")
		assert.ErrorIs(t, consumer.Seek(t.Context(), "t", 7, sluice.At(0)),
			sluice.ErrNotAssigned)
		require.NoError(t, consumer.Close())
	})
}

func TestWhatExcludesEachOtherIsRefused(t *testing.T) {
	_, g, client := startGroup(t, 1)
	consumer, err := client.NewConsumer()
	require.NoError(t, err)
	assert.ErrorIs(t, consumer.Subscribe("t"), sluice.ErrNoGroup)
	assert.ErrorIs(t, consumer.Commit(t.Context()), sluice.ErrNoGroup)
	require.NoError(t, consumer.Close())
	consumer, err = client.NewConsumer(sluice.WithGroup("g"))
	require.NoError(t, err)
	require.NoError(t, consumer.Assign(t.Context(), sluice.Assignment{Topic: "t"}))
	assert.ErrorIs(t, consumer.Subscribe("t"), sluice.ErrAssigned)
	// Without a member, a commit says nothing of one.
	require.NoError(t, consumer.Commit(t.Context(), sluice.CommitOffset{Topic: "t", Offset: 3}))
	assert.Empty(t, g.commits[0].GetMemberId())
	assert.Nil(t, g.commits[0].MemberEpoch)
	require.NoError(t, consumer.Assign(t.Context()))
	require.NoError(t, consumer.Subscribe("t"))
	assert.ErrorIs(t, consumer.Assign(t.Context(), sluice.Assignment{Topic: "t"}),
		sluice.ErrSubscribed)
	require.NoError(t, consumer.Close())
	assert.ErrorIs(t, consumer.Subscribe("t"), sluice.ErrClosed)
}

// TestAMemberWithoutPartitionsComesToTheEnd: it waits only as long as the group may still give it
// some.
func TestAMemberWithoutPartitionsComesToTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, g, client := startGroup(t, 1)
		f.fill(t, 0, 3, 1, batch.None)
		g.set(func() { g.state = sluicev1.GroupState_GROUP_STATE_RECONCILING })
		consumer := subscribed(t, client, &journal{}, sluice.WithStopAtEnd(),
			sluice.WithOffsetReset(sluice.Beginning()))
		assert.Empty(t, pollFor(t, consumer, time.Minute), "others may give something up")
		g.set(func() { g.state = sluicev1.GroupState_GROUP_STATE_STABLE })
		_, err := consumer.Poll(t.Context())
		require.ErrorIs(t, err, io.EOF)
		require.NoError(t, consumer.Close())
	})
}

// TestTheEndIsThatOfAllThatAMemberGets: of two partitions one is known later.
func TestTheEndIsThatOfAllThatAMemberGets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, g, client := startGroup(t, 2)
		f.fill(t, 0, 3, 1, batch.None)
		f.fill(t, 1, 3, 1, batch.None)
		g.give = []int32{0, 1}
		g.committed[0] = 0 // of 1 the beginning has to be asked for
		f.mu.Lock()
		f.offsetless = true
		f.mu.Unlock()
		consumer := subscribed(t, client, &journal{}, sluice.WithStopAtEnd(),
			sluice.WithOffsetReset(sluice.Beginning()))
		assert.Equal(t, map[int32][]string{0: numbers(3)}, pollFor(t, consumer, 5*time.Second))
		f.mu.Lock()
		f.offsetless = false
		f.mu.Unlock()
		read := map[int32][]string{}
		for {
			records, err := consumer.Poll(t.Context())
			if err != nil {
				require.ErrorIs(t, err, io.EOF)
				break
			}
			for _, r := range records {
				read[r.Partition] = append(read[r.Partition], string(r.Value))
			}
		}
		assert.Equal(t, map[int32][]string{1: numbers(3)}, read)
		require.NoError(t, consumer.Close())
	})
}

func TestUnsubscribeLeavesAndBeginsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, g, client := startGroup(t, 1)
		f.fill(t, 0, 5, 5, batch.None)
		g.give = []int32{0}
		told := &journal{}
		consumer := subscribed(t, client, told, sluice.WithMaxPollRecords(2),
			sluice.WithOffsetReset(sluice.Beginning()))
		records, err := consumer.Poll(t.Context())
		require.NoError(t, err)
		require.Len(t, records, 2)
		require.NoError(t, consumer.Unsubscribe(t.Context()))
		require.NoError(t, consumer.Unsubscribe(t.Context()), "again is harmless")
		assert.EqualValues(t, -1, g.lastBeat().GetMemberEpoch(), "it has left")
		assert.EqualValues(t, 2, g.committed[0])
		assert.Equal(t, []string{"assigned t-0", "revoked t-0"}, told.all())
		_, err = consumer.Poll(t.Context())
		require.ErrorIs(t, err, sluice.ErrNotAssigned)
		assert.Empty(t, consumer.Positions())

		require.NoError(t, consumer.Assign(t.Context(),
			sluice.Assignment{Topic: "t", From: sluice.At(4)}))
		records, err = consumer.Poll(t.Context())
		require.NoError(t, err)
		assert.EqualValues(t, 4, records[0].Offset, "by hand")
		require.NoError(t, consumer.Assign(t.Context()))

		require.NoError(t, consumer.Subscribe("t"))
		records, err = consumer.Poll(t.Context())
		require.NoError(t, err)
		assert.EqualValues(t, 2, records[0].Offset, "where it left off")
		require.NoError(t, consumer.Close())
		require.ErrorIs(t, consumer.Unsubscribe(t.Context()), sluice.ErrClosed)
	})
}

// TestUnsubscribeTakesBackWhatEndedAMembership: the program may try again.
func TestUnsubscribeTakesBackWhatEndedAMembership(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, g, client := startGroup(t, 1)
		f.fill(t, 0, 1, 1, batch.None)
		g.give = []int32{0}
		g.refuse = fault.GroupMaxSizeReached.With("group", "g", "count", 1, "limit", 1,
			"setting", "group.max.size")
		consumer := subscribed(t, client, &journal{}, sluice.WithOffsetReset(sluice.Beginning()))
		_, err := consumer.Poll(t.Context())
		require.ErrorIs(t, err, sluice.ErrGroupMaxSizeReached)
		require.Error(t, consumer.Subscribe("t"))
		require.NoError(t, consumer.Unsubscribe(t.Context()))
		require.NoError(t, consumer.Subscribe("t"))
		records, err := consumer.Poll(t.Context())
		require.NoError(t, err)
		assert.Len(t, records, 1)
		require.NoError(t, consumer.Close())
	})
}

func TestASubscriptionThatChangesIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, g, client := startGroup(t, 1)
		consumer := subscribed(t, client, &journal{})
		pollFor(t, consumer, time.Second)
		require.NoError(t, consumer.SubscribePattern("t.*"))
		pollFor(t, consumer, time.Second)
		g.mu.Lock()
		beats := slices.Clone(g.beats)
		g.mu.Unlock()
		i := slices.IndexFunc(beats, func(r *heartbeatRequest) bool {
			return r.GetSubscription().GetPattern() == "t.*"
		})
		require.Positive(t, i)
		assert.Positive(t, beats[i].GetMemberEpoch(), "it stays a member")
		pollFor(t, consumer, 10*time.Second)
		assert.Nil(t, g.lastBeat().GetSubscription(), "it is told once")
		require.NoError(t, consumer.Close())
	})
}
