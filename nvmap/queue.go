package nvmap

// queue is a list of pages in order of arrival, each at most once. Any page can be removed. Links
// are indices into one array, so a million pages give the garbage collector no work.
type queue struct {
	nodes []queueNode // nodes[0] is the ring's anchor
	at    map[PageID]int32
	spare int32 // first unused node, linked by next; 0: none
}

type queueNode struct {
	page       PageID
	next, prev int32
	count      uint8 // a counter for the user of the queue
}

func (q *queue) len() int { return len(q.at) }

func (q *queue) has(p PageID) bool {
	_, ok := q.at[p]
	return ok
}

// push adds p at the end, if it is not in the queue.
func (q *queue) push(p PageID) { q.pushCounted(p, 0) }

// pushCounted is push with a count, which popCounted returns.
func (q *queue) pushCounted(p PageID, count uint8) {
	if q.at == nil {
		q.at, q.nodes = map[PageID]int32{}, make([]queueNode, 1)
	}
	if q.has(p) {
		return
	}
	i := q.spare
	if i != 0 {
		q.spare = q.nodes[i].next
	} else {
		i = int32(len(q.nodes))
		q.nodes = append(q.nodes, queueNode{})
	}
	last := q.nodes[0].prev
	q.nodes[i] = queueNode{page: p, prev: last, count: count}
	q.nodes[last].next, q.nodes[0].prev = i, i
	q.at[p] = i
}

// pop removes the first page.
func (q *queue) pop() (PageID, bool) {
	p, _, ok := q.popCounted()
	return p, ok
}

// popCounted removes the first page and returns its count as well.
func (q *queue) popCounted() (p PageID, count uint8, ok bool) {
	if q.len() == 0 {
		return 0, 0, false
	}
	n := q.nodes[q.nodes[0].next]
	q.remove(n.page)
	return n.page, n.count, true
}

// remove removes p and reports whether it was in the queue.
func (q *queue) remove(p PageID) bool {
	i, ok := q.at[p]
	if !ok {
		return false
	}
	n := q.nodes[i]
	q.nodes[n.prev].next, q.nodes[n.next].prev = n.next, n.prev
	q.nodes[i] = queueNode{next: q.spare}
	q.spare = i
	delete(q.at, p)
	return true
}
