package conformance

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"

	"nvkv/compat"
)

// linearizable records the calls and results of concurrent callers. There must be an order of all
// calls, each at a point between its start and its end, in which every result is right.
func linearizable(s *store) {
	const seed, callers, calls, keys = 11, 4, 80, 3
	s.Logf("seed %d", seed)
	start := time.Now()
	var mu sync.Mutex
	var history []porcupine.Operation
	var group sync.WaitGroup
	for id := range callers {
		rng := rand.New(rand.NewPCG(seed, uint64(id)))
		group.Go(func() {
			seen := make(map[string]string) // what this caller last knew of a key
			for i := range calls {
				in := callInput{kind: callKind(rng.IntN(callKinds)), key: fmt.Sprint(rng.IntN(keys)), value: fmt.Sprint(id, "-", i)}
				if in.old = seen[in.key]; !in.possible(s) {
					in.kind = callPut
				}
				called := time.Since(start)
				found, err := in.run(s)
				returned := time.Since(start)
				if err != nil {
					s.Errorf("call %d of caller %d: %v", i, id, err)
				}
				seen[in.key] = in.known(found)
				mu.Lock()
				history = append(history, porcupine.Operation{
					ClientId: id, Input: in, Output: found, Call: int64(called), Return: int64(returned),
				})
				mu.Unlock()
			}
		})
	}
	group.Wait()
	if !porcupine.CheckOperations(registers, history) {
		s.Errorf("no order explains what %d callers were told in %d calls", callers, len(history))
	}
}

type callKind int

const (
	callGet callKind = iota
	callGetInSnapshot
	callPut
	callBatch
	callDelete
	callPutIfAbsent
	callSwap
	callDeleteIf
	callKinds = iota
)

// A callInput is one call on one key.
type callInput struct {
	kind  callKind
	key   string
	value string // value to store
	old   string // value to compare with
}

// met is the result of a conditional write whose condition held.
const met = "met"

// possible reports whether the engine can make the call. A swap needs a value to compare with.
func (in callInput) possible(s *store) bool {
	_, ok := s.Engine.(compat.ConditionalWriter)
	switch in.kind {
	case callPutIfAbsent:
		return ok
	case callSwap, callDeleteIf:
		return ok && in.old != absent
	}
	return true
}

// known returns what the caller knows of the key after the call returned found. Others may have
// changed it since.
func (in callInput) known(found string) string {
	switch in.kind {
	case callGet, callGetInSnapshot:
		return found
	case callDelete, callDeleteIf:
		return absent
	}
	return in.value
}

// absent is the result of a read if there is no value. No value is empty.
const absent = ""

// run makes the call. If it is a read, run returns the value found.
func (in callInput) run(s *store) (found string, err error) {
	switch in.kind {
	case callGet:
		return getOrAbsent(s, in.key)
	case callGetInSnapshot:
		r, err := s.Snapshot()
		if err != nil {
			return "", err
		}
		defer r.Close()
		return getOrAbsent(r, in.key)
	case callPut:
		return "", s.Put([]byte(in.key), []byte(in.value))
	case callBatch:
		return "", s.WriteBatch([]compat.Op{deleteOp(in.key), putOp(in.key, in.value)})
	case callPutIfAbsent, callSwap, callDeleteIf:
		return in.runIf(s.Engine.(compat.ConditionalWriter))
	}
	return "", s.Delete([]byte(in.key))
}

func (in callInput) runIf(e compat.ConditionalWriter) (result string, err error) {
	var held bool
	switch in.kind {
	case callPutIfAbsent:
		held, err = e.PutIfAbsent([]byte(in.key), []byte(in.value))
	case callSwap:
		held, err = e.CompareAndSwap([]byte(in.key), []byte(in.old), []byte(in.value))
	default:
		held, err = e.CompareAndDelete([]byte(in.key), []byte(in.old))
	}
	if held {
		return met, err
	}
	return "", err
}

func getOrAbsent(r reader, key string) (string, error) {
	value, err := r.Get(nil, []byte(key))
	if errors.Is(err, compat.ErrNotFound) {
		return absent, nil
	}
	return string(value), err
}

// registers is the porcupine model of a value per key.
var registers = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		byKey := make(map[string][]porcupine.Operation)
		for _, op := range history {
			key := op.Input.(callInput).key
			byKey[key] = append(byKey[key], op)
		}
		var parts [][]porcupine.Operation
		for _, part := range byKey {
			parts = append(parts, part)
		}
		return parts
	},
	Init: func() any { return absent },
	Step: func(state, input, output any) (legal bool, next any) {
		switch in := input.(callInput); in.kind {
		case callGet, callGetInSnapshot:
			return output == state, state
		case callDelete:
			return true, absent
		case callPutIfAbsent, callSwap, callDeleteIf:
			return in.step(state.(string), output == met)
		default:
			return true, in.value
		}
	},
}

// step is the model of a conditional write. held is what its caller was told.
func (in callInput) step(state string, held bool) (legal bool, next any) {
	want := in.old
	if in.kind == callPutIfAbsent {
		want = absent
	}
	switch {
	case held != (state == want):
		return false, state
	case !held:
		return true, state
	case in.kind == callDeleteIf:
		return true, absent
	}
	return true, in.value
}
