// Plist pushes its arguments on a list in non-volatile memory, in place, and prints it.
package main

import (
	"encoding/binary"
	"fmt"
	"log"
	"os"

	"nvkv/alloc"
	"nvkv/nvmap"
)

// list is a list of nodes: offset of the next node, length of the text, 8 bytes each, and text.
type list struct {
	m *nvmap.Map
	alloc.Allocator
}

// open claims the nodes that the list reaches. All other space is free, also after a crash.
func open(m *nvmap.Map, a alloc.Allocator) (*list, error) {
	l := &list{m, a}
	return l, a.Recover(func(keep func(alloc.Off, int) error) error {
		return l.each(func(o alloc.Off, text []byte) error { return keep(o, 16+len(text)) })
	})
}

// each visits the nodes. The texts alias the medium and are read-only.
func (l *list) each(visit func(o alloc.Off, text []byte) error) error {
	for o := l.Root(); o != 0; {
		node := append(l.m.View(o, 16), make([]byte, 16)...) // zeros if there is no node
		text := l.m.View(o+16, int(binary.LittleEndian.Uint64(node[8:])))
		if text == nil {
			return fmt.Errorf("no node at %#x", o)
		}
		if err := visit(o, text); err != nil {
			return err
		}
		o = alloc.Off(binary.LittleEndian.Uint64(node))
	}
	return nil
}

func (l *list) push(text string) error {
	o, err := l.Alloc(16 + len(text))
	if err != nil {
		return err
	}
	head := binary.LittleEndian.AppendUint64(nil, uint64(l.Root()))
	head = binary.LittleEndian.AppendUint64(head, uint64(len(text)))
	if err := l.m.Write(o, append(head, text...)); err != nil {
		return err
	}
	return l.SetRoot(o) // makes the node durable, then links it
}

func (l *list) pop() error {
	o := l.Root()
	if err := l.SetRoot(alloc.Off(binary.LittleEndian.Uint64(l.m.View(o, 8)))); err != nil {
		return err
	}
	return l.Free(o) // nothing durable refers to it any more
}

func must[T any](v T, err error) T {
	if err != nil {
		log.Fatalf("plist FILE [TEXT...]: %v", err)
	}
	return v
}

func main() { // nothing needs closing: all pushes are durable
	m := must(nvmap.NewMap(must(nvmap.OpenDevice(append(os.Args, "")[1], nvmap.OpenOptions{Create: true})), nil))
	l := must(open(m, must(alloc.OpenSlabs(m))))
	for _, text := range os.Args[2:] {
		must(l, l.push(text))
	}
	must(l, l.each(func(_ alloc.Off, text []byte) error { _, err := fmt.Printf("%s\n", text); return err }))
}
