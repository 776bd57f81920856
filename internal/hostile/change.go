package hostile

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// weights give the relative frequency of changes by kind of structure.
var weights = [partKinds]int{superblock: 8, sizeWord: 1, groupHeader: 1, descriptor: 6, slabMap: 6, inner: 24, leaf: 18, overflow: 10, valueBlock: 10, record: 14, runList: 6}

// Change changes one to four fields at random, and returns a description of the changes.
func (im *Image) Change(rng *rand.Rand) string {
	im.noDigest = rng.IntN(8) == 0
	for range 1 + rng.IntN(4) {
		im.changeOne(rng)
	}
	return im.Said()
}

// Said returns a description of all changes.
func (im *Image) Said() string { return strings.Join(im.said, "; ") }

func (im *Image) say(format string, args ...any) {
	im.said = append(im.said, fmt.Sprintf(format, args...))
}

func (im *Image) changeOne(rng *rand.Rand) {
	p := im.pick(rng)
	f := p.fields[rng.IntN(len(p.fields))]
	if rng.IntN(2) == 0 { // else heads and slots, which are many, would leave little for the others
		f = p.fields[rng.IntN(min(len(p.fields), 10))]
	}
	old := im.get(f)
	v := im.value(rng, p, f, old)
	im.set(f, v)
	im.say("%v: %s %#x, was %#x", &p, f.name, im.get(f), old)
	if p.kind == superblock { // both copies of the newest get the same value
		for _, q := range im.all(superblock) {
			if q.off != p.off && im.u64(q.off+superGen)&1 == im.u64(p.off+superGen)&1 || f.name == "generation" && rng.IntN(2) == 0 {
				im.set(field{off: q.off + f.off - p.off, width: f.width}, v)
			}
		}
	}
	if rng.IntN(3) > 0 {
		im.matchBirths(p, f)
	}
}

// pick returns a random part of a kind that the store has.
func (im *Image) pick(rng *rand.Rand) part {
	for {
		n := rng.IntN(110)
		for k, w := range weights {
			if n -= w; n >= 0 {
				continue
			}
			if of := im.byKind[partKind(k)]; len(of) > 0 {
				if partKind(k) == superblock && rng.IntN(4) > 0 {
					return im.parts[im.at[im.newest]]
				}
				return im.parts[of[rng.IntN(len(of))]]
			}
			break
		}
	}
}

// value returns the new value of a field.
func (im *Image) value(rng *rand.Rand, p part, f field, old uint64) uint64 {
	most := ^uint64(0) >> (64 - 8*f.width)
	if f.means != number && rng.IntN(4) > 0 {
		return im.place(rng, p, f, old)
	}
	switch rng.IntN(10) {
	case 0:
		return 0
	case 1:
		return most
	case 2:
		return old + 1
	case 3:
		return old - 1
	case 4:
		return old ^ 1<<rng.IntN(8*f.width)
	case 5:
		return most >> rng.IntN(8*f.width)
	case 6:
		return uint64(rng.IntN(256))
	case 7: // the value of a field of the same name elsewhere
		q := im.parts[im.byKind[p.kind][rng.IntN(len(im.byKind[p.kind]))]]
		for _, g := range q.fields {
			if g.name == f.name {
				return im.get(g)
			}
		}
	case 8:
		return old + uint64(rng.IntN(64))
	}
	return rng.Uint64() & most
}

// place returns the new value of a field that holds a place.
func (im *Image) place(rng *rand.Rand, p part, f field, old uint64) uint64 {
	kinds := []partKind{inner, leaf, overflow, valueBlock, record}
	o := p.off
	if rng.IntN(6) > 0 {
		k := kinds[rng.IntN(len(kinds))]
		switch { // mostly a part of the kind that the field refers to
		case rng.IntN(3) == 0:
		case f.means == blockNumber:
			k = valueBlock
		case f.means == recordRef:
			k = record
		case f.name == "overflow" || f.name == "next":
			k = overflow
		}
		if of := im.byKind[k]; len(of) > 0 {
			o = im.parts[of[rng.IntN(len(of))]].off
		}
	}
	if rng.IntN(12) == 0 {
		o = rng.IntN(len(im.b) + 1<<20)
	}
	switch f.means {
	case pageNumber:
		return uint64(o / pageBytes)
	case blockNumber:
		return uint64(o / 1024)
	case recordRef:
		return uint64(o)&^7 | old&7
	}
	if f.width == 2 {
		return uint64(rng.IntN(pageBytes + 64))
	}
	return uint64(o) &^ (pageBytes - 1)
}

// matchBirths sets the birth beside a changed reference to the birth of its new target.
func (im *Image) matchBirths(p part, f field) {
	o, most := int(im.get(f))*pageBytes, uint64(len(im.b)/pageBytes)
	switch {
	case f.means == pageNumber && im.get(f) >= most || f.means == blockNumber && im.get(f)/4 >= most:
	case f.name == "child":
		copy(im.b[f.off+10:f.off+12], im.b[o+pgBirth:])
	case f.name == "child's values":
		copy(im.b[f.off+7:f.off+9], im.b[int(im.get(f))*1024+8:])
	case f.name == "overflow":
		im.b[f.off+5] = im.b[o+pgBirth]
	case f.name == "next":
		copy(im.b[o+pgBirth:o+pgBirth+8], im.b[p.off+pgBirth:])
	case f.name == "root":
		for _, s := range im.all(superblock) {
			copy(im.b[s.off+payloadBirth:][:8], im.b[o+pgBirth:])
		}
	}
}
