package bbolt

import "math"

// Tx.Size promises how long the file is that Tx.WriteTo writes, before anything of
// it is laid out, and in constant time. So every commit keeps the books of what the
// items take in such a file: usage, for each bucket and for all. They bound the
// length from above:
//
//   - Package boltfile fills a leaf until the next item does not fit. A leaf is closed
//     by the item that follows: what lies in it and that item are more than a page.
//     An item that takes the part x of a page therefore weighs 5/4 x for its own
//     leaf, and, for the one that it may close, what 5/4 of the rest lacks of a page:
//     the leaf is either full to 4/5, or was closed by an item that pays the rest.
//     An item larger than a page takes whole pages, and may close one.
//   - A bucket of its own pages has one leaf more than its items pay for, and one branch
//     more on each level. A small one lies inside its entry, which pays for what it
//     may close by having it inside.
//   - A branch is filled likewise, with the first keys of the pages below, but holds
//     two of them however long they are. Which keys come first is not known, so the
//     keys are counted by classes of their length. On each level there are at most 2/3
//     as many as on the one below, and at most as many of a class as there are keys.
type usage struct {
	buckets uint64 // entries that are buckets
	bytes   uint64 // of entries as they stand in a leaf
	weight  uint64 // bytes of leaves that they take, at most
	keys    [keyClasses]uint64
}

// keyClasses is how many classes of lengths keys fall into.
const keyClasses = 10

// classPages is the most that a key of each class takes of a page in a branch.
var classPages = [keyClasses]float64{1.0 / 64, 1.0 / 16, 1.0 / 4, 1.0 / 2, 1, 2, 4, 8, 16, 64}

const (
	elementBytes = 16 // of an item in a leaf, and of a key in a branch
	pageHeader   = 16
	inlineBytes  = 32 // of a bucket inside its entry: its header and its page's
)

// layout is how long things are in pages of one size.
type layout struct{ page uint64 }

// usable is what a page has for elements.
func (l layout) usable() uint64 { return l.page - pageHeader }

func (l layout) class(key int) int {
	e := float64(key+elementBytes) / float64(l.usable())
	for i, most := range classPages {
		if e <= most {
			return i
		}
	}
	return keyClasses - 1
}

// pages returns the length of the whole pages that an element needs.
func (l layout) pages(n uint64) uint64 { return (n + pageHeader + l.page - 1) / l.page * l.page }

// mostElements is how many a page has at most, however small they are.
const mostElements = 65534

// own is what an element of n bytes, no more than a page's, weighs for its own page.
func (l layout) own(n uint64) uint64 {
	return min(l.page, max(l.page/mostElements+1, (5*n*l.page+4*l.usable()-1)/(4*l.usable())))
}

// closing is what it weighs for the page that it may close.
func (l layout) closing(n uint64) uint64 {
	rest := 5 * (l.usable() - n) * l.page / (4 * l.usable())
	return l.page - min(l.page, rest)
}

func (l layout) item(key, value int) (n, weight uint64) {
	n = uint64(elementBytes + key + value)
	if n > l.usable() {
		return n, l.pages(n) + l.page
	}
	return n, l.own(n) + l.closing(n)
}

// bucket is item for an entry that is a bucket.
func (l layout) bucket(key int) (n, weight uint64) {
	n = uint64(elementBytes + key + inlineBytes)
	most := n + l.page/4
	if most > l.usable() {
		return n, l.pages(most) + l.page
	}
	return n, l.own(n) + l.closing(most)
}

// change notes an entry that comes (by is 1) or goes (by is -1, as a uint64).
func (u *usage) change(l layout, key int, n, weight, by uint64) {
	u.bytes += by * n
	u.weight += by * weight
	u.keys[l.class(key)] += by
}

const (
	comes = uint64(1)
	goes  = ^uint64(0)
)

func (u *usage) item(l layout, key, value int, by uint64) {
	n, weight := l.item(key, value)
	u.change(l, key, n, weight, by)
}

func (u *usage) bucket(l layout, key int, by uint64) {
	n, weight := l.bucket(key)
	u.change(l, key, n, weight, by)
	u.buckets += by
}

// add adds all of o, or takes it away.
func (u *usage) add(o *usage, by uint64) {
	u.buckets += by * o.buckets
	u.bytes += by * o.bytes
	u.weight += by * o.weight
	for i := range u.keys {
		u.keys[i] += by * o.keys[i]
	}
}

// entries returns how many entries there are.
func (u *usage) entries() (n uint64) {
	for _, k := range u.keys {
		n += k
	}
	return n
}

// apart says whether a bucket with these entries has pages of its own.
func (u *usage) apart(l layout) bool { return u.buckets > 0 || pageHeader+u.bytes > l.page/4 }

// fileBytes bounds the length of a file with these entries, of which apart buckets
// beside the root have pages of their own. It is a multiple of 512.
func (u *usage) fileBytes(l layout, apart uint64) int64 {
	const metas = 3 // two of them and the freelist
	trees := float64(apart + 1)
	pages := float64(u.weight) / float64(l.page)
	leaves := math.Ceil(pages) + trees
	extra := min(pages, trees*(1+levels(1+pages/trees)))
	n := metas + trees + pages + extra + u.branches(leaves)
	return (int64(math.Ceil(n*float64(l.page))) + sizeUnit - 1) / sizeUnit * sizeUnit
}

// sizeUnit is what sizes are a multiple of: programs append checksums to copies, and
// tell by the length whether there is one.
const sizeUnit = 512

// levels is how often x can shrink to 2/3 until it is 1.
func levels(x float64) float64 { return math.Ceil(math.Log(max(1, x)) / math.Log(1.5)) }

// branches bounds the pages of branches above so many leaves.
func (u *usage) branches(leaves float64) (pages float64) {
	if leaves < 2 {
		return 0
	}
	for i, n := range u.keys {
		if n == 0 {
			continue
		}
		count := min(float64(n), leaves)
		pages += count * branchPages(i) * (3 + levels(leaves/count))
	}
	return pages
}

// branchPages is what a key of a class weighs in a branch.
func branchPages(class int) float64 {
	switch e := classPages[class]; {
	case e <= 0.5:
		return 1.25*e + max(0, 1.25*e-0.25)
	case e <= 1:
		return 3
	default:
		return math.Ceil(e) + 3
	}
}
