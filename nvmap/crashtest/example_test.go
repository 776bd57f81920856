package crashtest_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"nvkv/nvmap"
	"nvkv/nvmap/crashtest"
)

// stack is a linked stack of numbers on a device. The head word at offset 0 holds the offset of the
// top node. A node has two words, the number and the offset of the next node, and lies in a line of
// its own.
type stack struct {
	dev   nvmap.Device
	next  nvmap.Off // offset for the next node
	hasty bool      // the planted bug: the head is published before its node is fenced
}

const nodeBytes = 64

func (s *stack) push(n uint64) error {
	var head, node [16]byte
	if err := s.dev.Read(0, head[:8]); err != nil {
		return err
	}
	binary.LittleEndian.PutUint64(node[:], n)
	copy(node[8:], head[:8])
	if err := s.dev.Write(s.next, node[:]); err != nil {
		return err
	}
	if !s.hasty {
		if err := s.dev.Fence(); err != nil {
			return err
		}
	}
	binary.LittleEndian.PutUint64(head[:], uint64(s.next))
	s.next += nodeBytes
	if err := s.dev.Write(0, head[:8]); err != nil {
		return err
	}
	return s.dev.Fence()
}

// openStack returns the stack on a device, and its numbers from the bottom.
func openStack(dev nvmap.Device, hasty bool) (s *stack, numbers []uint64, err error) {
	s = &stack{dev: dev, next: nodeBytes, hasty: hasty}
	if err := dev.Grow(1 << 16); err != nil {
		return nil, nil, err
	}
	// The bytes that a killed process left may not be durable, so write them again.
	var head [8]byte
	err = errors.Join(dev.Read(0, head[:]), dev.Write(0, head[:]), dev.Fence())
	if err != nil {
		return nil, nil, err
	}
	for at := nvmap.Off(binary.LittleEndian.Uint64(head[:])); at != 0; {
		var node [16]byte
		if err := dev.Read(at, node[:]); err != nil {
			return nil, nil, err
		}
		numbers = append(numbers, binary.LittleEndian.Uint64(node[:]))
		s.next = max(s.next, at+nodeBytes)
		at = nvmap.Off(binary.LittleEndian.Uint64(node[8:]))
	}
	slices.Reverse(numbers)
	return s, numbers, nil
}

// stackTest is a session of a stack.
type stackTest struct {
	stack *stack
	acked []uint64 // numbers on the stack
	more  []uint64 // numbers including the one that is being pushed
	hasty bool
}

func (t *stackTest) Step(m *crashtest.Medium) error {
	n := m.Rand().Uint64N(1000) + 1
	m.Log("push %d", n)
	t.more = append(slices.Clone(t.acked), n)
	err := t.stack.push(n)
	t.acked = t.more
	return err
}

func (t *stackTest) Recover(m *crashtest.Medium) (crashtest.Session, error) {
	s, numbers, err := openStack(m.Device(), t.hasty)
	if err != nil {
		return nil, err
	}
	if !slices.Equal(numbers, t.acked) && !slices.Equal(numbers, t.more) {
		return nil, fmt.Errorf("a stack of %v, neither %v nor %v", numbers, t.acked, t.more)
	}
	return &stackTest{stack: s, acked: numbers, more: numbers, hasty: t.hasty}, nil
}

func (t *stackTest) End(*crashtest.Medium) error { return nil }

// This example is a complete crash test of a small structure. It finds the planted bug: a head that
// is durable while its node is not.
func Example() {
	for _, hasty := range []bool{false, true} {
		report, err := crashtest.Run(crashtest.Options{Seed: 1, Steps: []int{30, 3, 2}}, &stackTest{hasty: hasty})
		fmt.Printf("hasty %v: tried %v states", hasty, report.States > 0)
		switch {
		case err == nil:
			fmt.Println(", all legal")
		case strings.Contains(err.Error(), "a stack of"):
			fmt.Println(", one is not legal")
		default:
			fmt.Println(err)
		}
	}
	// Output:
	// hasty false: tried true states, all legal
	// hasty true: tried true states, one is not legal
}

// Every call is needed: with any of them disabled the test fails.
func ExampleMutate() {
	suite := func(sites *crashtest.Sites) error {
		_, err := crashtest.Run(crashtest.Options{Steps: []int{30, 3, 2}, Sites: sites}, &stackTest{})
		return err
	}
	mutants, err := crashtest.Mutate(crashtest.MutateOptions{}, suite)
	fmt.Println(mutants, err)
	// Output:
	// 6 call sites, 6 disabled in turn, 6 noticed, 0 not <nil>
}
