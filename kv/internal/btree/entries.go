package btree

// Entries calls fn for the entries of the leaf at which the trail stands, from one on. Keys and
// references count only if the trail stands afterwards. A key is valid until fn returns.
func (t *Trail) Entries(from int, fn func(key []byte, x Ref)) error {
	here := t.steps[0].seenPage
	pg := t.ix.at(here.page)
	var key []byte
	for i := from; i < t.n; i++ {
		k, err := t.ix.appendKey(key[:0], pg, t.n, i)
		if err != nil {
			return t.failed(here, err)
		}
		key = k
		fn(key, ValAt(t.vals, i))
	}
	return nil
}

// NextKey moves to the next leaf that has entries and returns its first key, or nil if none
// follows.
func (t *Trail) NextKey() (key []byte, err error) {
	for {
		more, err := t.onward()
		if !more || err != nil {
			return nil, err
		}
		if t.n == 0 {
			continue
		}
		here := t.steps[0].seenPage
		key, err := t.ix.appendKey(make([]byte, 0, 64), t.ix.at(here.page), t.n, 0)
		if err != nil {
			return nil, t.failed(here, err)
		}
		return key, nil
	}
}
