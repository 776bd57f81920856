package bbolt_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"

	"go.etcd.io/bbolt"
)

// tree is what a bucket is to hold.
type tree struct {
	items    map[string]string
	buckets  map[string]*tree
	sequence uint64
}

func newTree() *tree { return &tree{items: map[string]string{}, buckets: map[string]*tree{}} }

func (m *tree) at(path []string) *tree {
	for _, name := range path {
		if m = m.buckets[name]; m == nil {
			return nil
		}
	}
	return m
}

// String returns all of it, a line each.
func (m *tree) String() string {
	var b strings.Builder
	m.write(&b, "")
	return b.String()
}

func (m *tree) write(b *strings.Builder, indent string) {
	names := slices.Sorted(maps.Keys(m.items))
	names = append(names, slices.Collect(maps.Keys(m.buckets))...)
	slices.Sort(names)
	for _, k := range names {
		if n := m.buckets[k]; n != nil {
			fmt.Fprintf(b, "%s%s/ %d\n", indent, k, n.sequence)
			n.write(b, indent+" ")
		} else {
			fmt.Fprintf(b, "%s%s=%s\n", indent, k, m.items[k])
		}
	}
}

// step is one operation, on the bucket at path.
type step struct {
	kind     int
	path, to []string
	key      string
	value    string
}

const (
	stepPut = iota
	stepDelete
	stepCreate
	stepDrop
	stepMove
	stepSequence
	stepKinds
)

func randomPath(r *rand.Rand) (path []string) {
	for range r.IntN(4) {
		path = append(path, fmt.Sprintf("b%d", r.IntN(3)))
	}
	return path
}

func randomStep(r *rand.Rand) step {
	s := step{kind: r.IntN(stepKinds), path: randomPath(r), to: randomPath(r)}
	switch s.kind {
	case stepPut, stepDelete:
		s.key, s.value = fmt.Sprintf("k%d", r.IntN(50)), strings.Repeat("v", r.IntN(1<<r.IntN(12)))
	default:
		s.key = fmt.Sprintf("b%d", r.IntN(3))
		if r.IntN(3) > 0 && s.kind == stepDrop {
			s.kind = stepCreate
		}
	}
	return s
}

// do does the step on the model, and says whether it can be done.
func (m *tree) do(s step) bool {
	at, to := m.at(s.path), m.at(s.to)
	if at == nil {
		return false
	}
	child := at.buckets[s.key]
	switch s.kind {
	case stepPut:
		if len(s.path) == 0 {
			return false
		}
		at.items[s.key] = s.value
	case stepDelete:
		delete(at.items, s.key)
	case stepCreate:
		if child != nil {
			return false
		}
		at.buckets[s.key] = newTree()
	case stepDrop:
		if child == nil {
			return false
		}
		delete(at.buckets, s.key)
	case stepMove:
		if child == nil || to == nil || to == at || to.buckets[s.key] != nil || child.holds(to) {
			return false
		}
		delete(at.buckets, s.key)
		to.buckets[s.key] = child
	case stepSequence:
		if len(s.path) == 0 {
			return false
		}
		at.sequence++
	}
	return true
}

// holds says whether t is m or lies in it.
func (m *tree) holds(t *tree) bool {
	if m == t {
		return true
	}
	for _, b := range m.buckets {
		if b.holds(t) {
			return true
		}
	}
	return false
}

// do does the step on a database.
func (s step) do(tx *bbolt.Tx) (err error) {
	at, to := bucketAt(tx, s.path), bucketAt(tx, s.to)
	key := []byte(s.key)
	switch s.kind {
	case stepPut:
		err = at.Put(key, []byte(s.value))
	case stepDelete:
		if at != nil {
			err = at.Delete(key)
		}
	case stepCreate:
		if at == nil {
			_, err = tx.CreateBucket(key)
		} else {
			_, err = at.CreateBucket(key)
		}
	case stepDrop:
		if at == nil {
			err = tx.DeleteBucket(key)
		} else {
			err = at.DeleteBucket(key)
		}
	case stepMove:
		err = tx.MoveBucket(key, at, to)
	case stepSequence:
		_, err = at.NextSequence()
	}
	if err != nil {
		err = fmt.Errorf("%+v: %w", s, err)
	}
	return err
}

// bucketAt returns the bucket at path, nil for the top level.
func bucketAt(tx *bbolt.Tx, path []string) (b *bbolt.Bucket) {
	for i, name := range path {
		if i == 0 {
			b = tx.Bucket([]byte(name))
		} else if b != nil {
			b = b.Bucket([]byte(name))
		}
	}
	return b
}

// treeOf returns what a database holds.
func treeOf(tx *bbolt.Tx) *tree {
	m := newTree()
	_ = tx.ForEach(func(name []byte, b *bbolt.Bucket) error {
		m.buckets[string(name)] = bucketTree(b)
		return nil
	})
	return m
}

func bucketTree(b *bbolt.Bucket) *tree {
	m := newTree()
	m.sequence = b.Sequence()
	_ = b.ForEach(func(k, v []byte) error {
		if v == nil {
			m.buckets[string(k)] = bucketTree(b.Bucket(k))
		} else {
			m.items[string(k)] = string(v)
		}
		return nil
	})
	return m
}
