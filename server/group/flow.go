package group

// flowWorkMax bounds the steps of deal.flow: about a fifth of a second.
const flowWorkMax = 10_000_000

// flowWork estimates the steps of flow: for each partition, one search over all
// that members want.
func (d *deal) flowWork() int {
	partitions, arcs := 0, 0
	for _, topic := range d.topics {
		partitions += int(d.counts[topic])
	}
	for _, m := range d.members {
		arcs += 2 * len(m.topics)
	}
	return partitions * (arcs + len(d.members) + len(d.topics))
}

// flow finds the most even assignment that moves the fewest partitions, as a
// flow of least cost. Partitions of a topic are alike but for who had them, so
// they flow as a number: from the topic to a member by an arc that is free for
// as many as it had, and by another, of cost 1, for others; from the member to
// the sink, where the k-th costs k times more than all moves together. The sum
// of those is least when the sum of the squares of the loads is. Each round
// sends one partition along the cheapest way, which may take back what earlier
// ones did.
func (d *deal) flow() {
	f := newFlow(d)
	for t, topic := range d.topics {
		for range d.counts[topic] {
			f.send(t)
		}
	}
	kept := make([]map[string]int, len(d.members))
	moved := make([]map[string]int, len(d.members))
	for i := range d.members {
		kept[i], moved[i] = map[string]int{}, map[string]int{}
	}
	for t, topic := range d.topics {
		for _, a := range f.arcs[t] {
			kept[a.member][topic] += a.kept
			moved[a.member][topic] += a.moved
		}
	}
	for i := range d.members {
		for topic, had := range d.has[i] {
			n := kept[i][topic]
			for _, p := range had[:n] {
				d.give(i, topic, p)
			}
			d.loose[topic] = append(d.loose[topic], had[n:]...)
		}
	}
	for i, m := range d.members {
		for _, topic := range m.topics {
			n := moved[i][topic]
			for _, p := range d.loose[topic][:n] {
				d.give(i, topic, p)
			}
			d.loose[topic] = d.loose[topic][n:]
		}
	}
}

// arc is what flows from a topic to a member.
type arc struct {
	member, topic int
	had           int // of the topic, by the member
	kept, moved   int
}

// network is the residual graph. Nodes are topics, then members.
type network struct {
	topics int
	arcs   [][]*arc // by topic
	back   [][]*arc // by member
	load   []int
	unit   int64   // what one more on the same member costs; more than all moves
	height []int64 // potentials, with which no arc costs less than nothing
	cost   []int64
	from   []step
}

// step is how the search came to a node.
type step struct {
	arc  *arc
	kind stepKind
}

type stepKind int

const (
	keepOne stepKind = iota // topic to member: one that it had
	moveOne                 // topic to member: one that it had not
	unkeep                  // member to topic: take back one that was kept
	unmove                  // member to topic: take back one that was moved
)

func newFlow(d *deal) *network {
	at := make(map[string]int, len(d.topics))
	partitions := 0
	for t, topic := range d.topics {
		at[topic] = t
		partitions += int(d.counts[topic])
	}
	nodes := len(d.topics) + len(d.members)
	f := &network{
		topics: len(d.topics), arcs: make([][]*arc, len(d.topics)),
		back: make([][]*arc, len(d.members)), load: make([]int, len(d.members)),
		unit: int64(partitions) + 1, height: make([]int64, nodes),
		cost: make([]int64, nodes), from: make([]step, nodes),
	}
	for i, m := range d.members {
		for _, topic := range m.topics {
			a := &arc{member: i, topic: at[topic], had: len(d.has[i][topic])}
			f.arcs[a.topic] = append(f.arcs[a.topic], a)
			f.back[i] = append(f.back[i], a)
		}
	}
	return f
}

const unreached = int64(1) << 62

// send sends one partition of a topic along the cheapest way (Dijkstra over
// reduced costs).
func (f *network) send(topic int) {
	for i := range f.cost {
		f.cost[i] = unreached
	}
	f.cost[topic] = 0
	queue := &nodeQueue{{topic, 0}}
	for len(*queue) > 0 {
		next := queue.pop()
		if next.cost > f.cost[next.node] {
			continue
		}
		f.relax(next.node, queue)
	}
	best, bestCost := -1, int64(0)
	for i, load := range f.load {
		node := f.topics + i
		if f.cost[node] == unreached {
			continue
		}
		real := f.cost[node] - f.height[topic] + f.height[node] + int64(load+1)*f.unit
		if best < 0 || real < bestCost {
			best, bestCost = node, real
		}
	}
	f.raise()
	f.load[best-f.topics]++
	f.push(topic, best)
}

// raise takes the costs found into the heights.
func (f *network) raise() {
	most := int64(0)
	for _, c := range f.cost {
		if c != unreached {
			most = max(most, c)
		}
	}
	for i, c := range f.cost {
		f.height[i] += min(c, most)
	}
}

func (f *network) relax(node int, queue *nodeQueue) {
	try := func(to int, cost int64, by step) {
		reduced := f.cost[node] + cost + f.height[node] - f.height[to]
		if reduced < f.cost[to] {
			f.cost[to], f.from[to] = reduced, by
			queue.push(nodeCost{to, reduced})
		}
	}
	if node < f.topics {
		for _, a := range f.arcs[node] {
			if a.kept < a.had {
				try(f.topics+a.member, 0, step{a, keepOne})
			}
			try(f.topics+a.member, 1, step{a, moveOne})
		}
		return
	}
	for _, a := range f.back[node-f.topics] {
		if a.moved > 0 {
			try(a.topic, -1, step{a, unmove})
		}
		if a.kept > 0 {
			try(a.topic, 0, step{a, unkeep})
		}
	}
}

// push changes what flows along the way that was found.
func (f *network) push(topic, node int) {
	for node != topic {
		s := f.from[node]
		switch s.kind {
		case keepOne:
			s.arc.kept++
			node = s.arc.topic
		case moveOne:
			s.arc.moved++
			node = s.arc.topic
		case unkeep:
			s.arc.kept--
			node = f.topics + s.arc.member
		case unmove:
			s.arc.moved--
			node = f.topics + s.arc.member
		}
	}
}

// nodeCost is a node that the search may go on from.
type nodeCost struct {
	node int
	cost int64
}

// nodeQueue is a binary heap of them, the cheapest first.
type nodeQueue []nodeCost

func (q *nodeQueue) push(n nodeCost) {
	h := append(*q, n)
	for i := len(h) - 1; i > 0; {
		parent := (i - 1) / 2
		if h[parent].cost <= h[i].cost {
			break
		}
		h[parent], h[i] = h[i], h[parent]
		i = parent
	}
	*q = h
}

// pop takes the cheapest out; there must be one.
func (q *nodeQueue) pop() nodeCost {
	h := *q
	first, last := h[0], len(h)-1
	h[0] = h[last]
	h = h[:last]
	for i := 0; ; {
		child := 2*i + 1
		if child >= last {
			break
		}
		if right := child + 1; right < last && h[right].cost < h[child].cost {
			child = right
		}
		if h[i].cost <= h[child].cost {
			break
		}
		h[i], h[child] = h[child], h[i]
		i = child
	}
	*q = h
	return first
}
