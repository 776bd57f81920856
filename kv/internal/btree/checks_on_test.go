//go:build nvkvdebug

package btree

import (
	"fmt"
	"strings"
	"testing"
)

// panicOf returns what fn panics with, or "".
func panicOf(fn func()) (text string) {
	defer func() {
		if r := recover(); r != nil {
			text = fmt.Sprint(r)
		}
	}()
	fn()
	return ""
}

// TestChecksSeeFaults plants faults in a page while it is changed. The end of the change must
// notice each.
func TestChecksSeeFaults(t *testing.T) {
	for want, plant := range map[string]func(m *treeModel, leaf *Page){
		"is not sound":          func(_ *treeModel, p *Page) { put16(p, pgGarbage, u16(p, pgGarbage)+1) },
		"is not sound after":    func(_ *treeModel, p *Page) { setHead(p, 0, head(p, 1)+1) },
		"has another number":    func(_ *treeModel, p *Page) { p[pgSelf]++ },
		"was born in epoch":     func(m *treeModel, p *Page) { setBirth(p, m.ix.epoch+1) },
		"keys from":             func(_ *treeModel, p *Page) { setHead(p, Count(p)-1, ^uint32(0)) },
		"does not lead to":      func(m *treeModel, _ *Page) { m.way.steps[0].page++ },
		"12 entries, heap top ": func(_ *treeModel, p *Page) { put16(p, pgHeapTop, u16(p, pgHeapTop)-1) },
	} {
		m := newTreeModel(t)
		for i := range 300 { // several leaves
			m.put(fmt.Appendf(nil, "%04d", i))
		}
		m.must(m.ix.Find([]byte("0000"), &m.way))
		id := m.way.steps[0].page
		leaf, err := m.ix.m.Frame(id)
		m.must(err)
		for Count(leaf) > 12 {
			m.must(m.ix.Find([]byte("0000"), &m.way))
			removeEntry(leaf, Count(leaf)-1)
		}
		if text := panicOf(func() { m.ix.bump(id); m.ix.checks.entry(&m.ix, &m.way) }); text != "" {
			t.Fatalf("without a fault: %s", text)
		}
		text := panicOf(func() {
			m.ix.begin(id)
			plant(m, leaf)
			m.ix.end(id)
			m.ix.checks.entry(&m.ix, &m.way)
		})
		if !strings.Contains(text, want) {
			t.Errorf("%q, want %q", text, want)
		}
	}
}
