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
			for i := range calls {
				in := callInput{kind: callKind(rng.IntN(callKinds)), key: fmt.Sprint(rng.IntN(keys)), value: fmt.Sprint(id, "-", i)}
				called := time.Since(start)
				found, err := in.run(s)
				returned := time.Since(start)
				if err != nil {
					s.Errorf("call %d of caller %d: %v", i, id, err)
				}
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
	callKinds = iota
)

// A callInput is one call on one key.
type callInput struct {
	kind  callKind
	key   string
	value string // value to store
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
	}
	return "", s.Delete([]byte(in.key))
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
		default:
			return true, in.value
		}
	},
}
