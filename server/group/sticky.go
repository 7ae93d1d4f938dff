package group

import (
	"maps"
	"slices"
)

// assignUniform spreads partitions evenly and leaves as many as it can where
// they are. Where members want different topics it is quick rather than perfect.
func assignUniform(members []subscriber, counts map[string]int32) map[string]Assignment {
	if len(members) == 0 {
		return nil
	}
	d := newDeal(members, counts)
	if alike(members) {
		d.even()
	} else {
		d.greedy()
	}
	return d.result()
}

// assignSticky spreads partitions evenly and moves the fewest that it takes:
// among all assignments with the least sum of the squares of how many each
// member has, it finds one that moves as few partitions as any. Where members
// want different topics and there are so many that this would take long, it is
// assignUniform.
func assignSticky(members []subscriber, counts map[string]int32) map[string]Assignment {
	if len(members) == 0 {
		return nil
	}
	d := newDeal(members, counts)
	switch {
	case alike(members):
		d.even()
	case d.flowWork() <= flowWorkMax:
		d.flow()
	default:
		d.greedy()
	}
	return d.result()
}

// deal is partitions on their way to members.
type deal struct {
	members []subscriber
	topics  []string
	counts  map[string]int32
	wants   []map[string]bool
	has     []map[string][]int32 // what each had of what it may have, by topic
	made    []map[string][]int32 // what each gets
	load    []int                // how many each gets
	loose   map[string][]int32   // what nobody had, by topic
}

func newDeal(members []subscriber, counts map[string]int32) *deal {
	n := len(members)
	d := &deal{
		members: members, counts: counts, wants: make([]map[string]bool, n),
		has: make([]map[string][]int32, n), made: make([]map[string][]int32, n),
		load: make([]int, n), loose: map[string][]int32{},
	}
	taken := map[string][]bool{}
	for _, m := range members {
		for _, topic := range m.topics {
			if taken[topic] == nil {
				taken[topic] = make([]bool, counts[topic])
				d.topics = append(d.topics, topic)
			}
		}
	}
	slices.Sort(d.topics)
	for i, m := range members {
		d.wants[i] = make(map[string]bool, len(m.topics))
		d.has[i], d.made[i] = map[string][]int32{}, map[string][]int32{}
		for _, topic := range m.topics {
			d.wants[i][topic] = true
			for _, p := range m.has[topic] {
				if int(p) < len(taken[topic]) && !taken[topic][p] {
					taken[topic][p] = true
					d.has[i][topic] = append(d.has[i][topic], p)
				}
			}
		}
	}
	for topic, marks := range taken {
		for p, marked := range marks {
			if !marked {
				d.loose[topic] = append(d.loose[topic], int32(p))
			}
		}
	}
	return d
}

func (d *deal) result() map[string]Assignment {
	made := make(map[string]Assignment, len(d.members))
	for i, m := range d.members {
		a := Assignment{}
		for topic, partitions := range d.made[i] {
			if len(partitions) > 0 {
				slices.Sort(partitions)
				a[topic] = partitions
			}
		}
		made[m.id] = a
	}
	return made
}

// total returns how many of the partitions a member had.
func total(byTopic map[string][]int32) int {
	n := 0
	for _, partitions := range byTopic {
		n += len(partitions)
	}
	return n
}

// even shares out where all members want the same. Of P partitions and N members
// each gets P/N, and P%N of them one more: those that had most already, so that
// what is kept is the most that can be.
func (d *deal) even() {
	partitions := 0
	for _, topic := range d.topics {
		partitions += int(d.counts[topic])
	}
	n := len(d.members)
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	had := make([]int, n)
	for i := range d.members {
		had[i] = total(d.has[i])
	}
	slices.SortStableFunc(order, func(a, b int) int { return had[b] - had[a] })
	quota := make([]int, n)
	for rank, i := range order {
		quota[i] = partitions / n
		if rank < partitions%n {
			quota[i]++
		}
	}
	for i := range d.members {
		d.keep(i, quota[i])
	}
	next := 0
	for _, topic := range d.topics {
		for _, p := range d.loose[topic] {
			for d.load[next] >= quota[next] {
				next++
			}
			d.give(next, topic, p)
		}
	}
}

// keep leaves a member at most so many of the partitions that it had; the others
// become loose.
func (d *deal) keep(i, quota int) {
	for _, topic := range slices.Sorted(maps.Keys(d.has[i])) {
		had := d.has[i][topic]
		n := min(len(had), quota-d.load[i])
		for _, p := range had[:n] {
			d.give(i, topic, p)
		}
		d.loose[topic] = append(d.loose[topic], had[n:]...)
	}
}

func (d *deal) give(i int, topic string, p int32) {
	d.made[i][topic] = append(d.made[i][topic], p)
	d.load[i]++
}

// greedy shares out where members want different topics: everyone keeps what it
// had, what is loose goes to whoever has least, and then partitions move one by
// one as long as that makes it more even.
func (d *deal) greedy() {
	for i := range d.members {
		d.keep(i, total(d.has[i]))
	}
	takers := map[string][]int{}
	for i, m := range d.members {
		for _, topic := range m.topics {
			takers[topic] = append(takers[topic], i)
		}
	}
	byTakers := slices.Clone(d.topics)
	slices.SortStableFunc(byTakers, func(a, b string) int {
		return len(takers[a]) - len(takers[b])
	})
	for _, topic := range byTakers {
		for _, p := range d.loose[topic] {
			d.give(d.least(takers[topic]), topic, p)
		}
	}
	for moved := true; moved; {
		moved = false
		for _, topic := range byTakers {
			moved = d.level(topic, takers[topic]) || moved
		}
	}
}

func (d *deal) least(of []int) int {
	return slices.MinFunc(of, func(a, b int) int { return d.load[a] - d.load[b] })
}

// level moves partitions of a topic from those that have most to those that have
// least. Each move lowers the sum of the squares of the loads, so it ends.
func (d *deal) level(topic string, takers []int) bool {
	moved := false
	for {
		from := -1
		for _, i := range takers {
			if len(d.made[i][topic]) > 0 && (from < 0 || d.load[i] > d.load[from]) {
				from = i
			}
		}
		if from < 0 {
			return moved
		}
		to := d.least(takers)
		if d.load[from]-d.load[to] < 2 {
			return moved
		}
		last := len(d.made[from][topic]) - 1
		p := d.made[from][topic][last]
		d.made[from][topic] = d.made[from][topic][:last]
		d.load[from]--
		d.give(to, topic, p)
		moved = true
	}
}
