package alloc_test

import (
	"encoding/binary"
	"fmt"
	"log"

	"nvkv/alloc"
	"nvkv/nvmap"
)

// This example uses a Region without package kv. It stores greetings, each in a slot, and an array
// of their offsets in the superblock's payload.
func Example() {
	dev := nvmap.NewMem(16 << 20) // in memory; nvmap.OpenDevice opens a device that outlives the process
	m, err := nvmap.NewMap(dev, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	if err := alloc.Format(m, alloc.Options{}); err != nil {
		log.Fatal(err)
	}
	if err := writeGreetings(m, "hello", "good morning"); err != nil {
		log.Fatal(err)
	}
	if err := readGreetings(m); err != nil {
		log.Fatal(err)
	}
	// Output:
	// hello
	// good morning
	// 2 slots live, 64 bytes each at most
}

const greetingBytes = 64

// writeGreetings stores all greetings, then makes them count atomically.
func writeGreetings(m *nvmap.Map, greetings ...string) error {
	r, err := alloc.Open(m)
	if err != nil {
		return err
	}
	r.SetInterval(1)
	r.Ready()
	class, _ := r.ClassFor(greetingBytes)
	var payload []byte
	for _, g := range greetings {
		off, err := r.AllocRecord(class, false)
		if err != nil {
			return err
		}
		if err := r.Touch(off); err != nil { // writes the identity of the slab, for the same fence as the slot
			return err
		}
		if err := m.Write(off, append([]byte{byte(len(g))}, g...)); err != nil {
			return err
		}
		r.SetLive(off)
		payload = binary.LittleEndian.AppendUint64(payload, uint64(off))
	}
	// The maps say which slots are live, from the next superblock on.
	if err := r.WriteMaps(r.FreezeMaps(), r.Generation()+1); err != nil {
		return err
	}
	if err := m.Fence(); err != nil {
		return err
	}
	return r.WriteSuper(payload)
}

// readGreetings opens the region again, as after a crash.
func readGreetings(m *nvmap.Map) error {
	r, err := alloc.Open(m)
	if err != nil {
		return err
	}
	if _, _, err := r.LoadMaps(r.Generation()); err != nil {
		return err
	}
	r.Ready()
	live := 0
	for p := r.Payload(); len(p) > 0; p = p[8:] {
		off := alloc.Off(binary.LittleEndian.Uint64(p))
		if r.IsLive(off) {
			live++
		}
		b := m.View(off, greetingBytes) // in place, no copy
		fmt.Printf("%s\n", b[1:1+b[0]])
	}
	fmt.Printf("%d slots live, %d bytes each at most\n", live, greetingBytes)
	return nil
}

// This example stores data larger than the largest slot in runs.
func ExampleRegion_AllocRuns() {
	m, err := nvmap.NewMap(nvmap.NewMem(16<<20), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	if err := alloc.Format(m, alloc.Options{}); err != nil {
		log.Fatal(err)
	}
	r, err := alloc.Open(m)
	if err != nil {
		log.Fatal(err)
	}
	r.SetInterval(1)
	r.Ready()
	runs, err := r.AllocRuns(100_000, 8)
	if err != nil {
		log.Fatal(err)
	}
	for _, e := range runs {
		fmt.Println(e.Bytes, "bytes")
	}
	fmt.Println("largest slot:", r.LargestSlot(), "bytes")
	// Output:
	// 65536 bytes
	// 36864 bytes
	// largest slot: 16384 bytes
}
