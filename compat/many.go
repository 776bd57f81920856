package compat

import "errors"

// A ManyGetter looks up several keys at once. It is optional for an [Engine] and a [Reader]; use
// [GetMany]. nvkv is one.
type ManyGetter interface {
	// GetMany calls fn once for each key, in their order, until fn returns false. err is
	// ErrNotFound for an absent key. All keys are looked up in one state. The value is valid during
	// that call of fn only and must not be written to. As with Scan, fn may read and must not write.
	GetMany(keys [][]byte, fn func(i int, value []byte, err error) bool) error
}

var (
	_ ManyGetter = (*nvkvEngine)(nil)
	_ ManyGetter = (*nvkvReader)(nil)
)

func (e *nvkvEngine) GetMany(keys [][]byte, fn func(i int, value []byte, err error) bool) error {
	return e.db.GetMany(keys, fn)
}

func (r *nvkvReader) GetMany(keys [][]byte, fn func(i int, value []byte, err error) bool) error {
	if !r.gate.enter() {
		return *r.ended.Load()
	}
	defer r.gate.leave()
	return r.tx.GetMany(keys, fn)
}

// GetMany is [ManyGetter.GetMany] for every engine: one that is no ManyGetter looks up the keys one
// by one in a snapshot.
func GetMany(e Engine, keys [][]byte, fn func(i int, value []byte, err error) bool) (err error) {
	if m, ok := e.(ManyGetter); ok {
		return m.GetMany(keys, fn)
	}
	r, err := e.Snapshot()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	var value []byte
	for i, key := range keys {
		value, err = r.Get(value[:0], key)
		if errors.Is(err, ErrClosed) {
			return err
		}
		if !fn(i, value, err) {
			break
		}
	}
	return nil
}
