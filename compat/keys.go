package compat

import "fmt"

// bbolt refuses the empty key, and pebble 2.1 panics in the background when it writes a table block
// that holds nothing else. So both adapters map keys, one to one and in the same order, to keys
// that are not empty: a key of zero bytes only, including the empty key, gets one more zero, and
// any other key is unchanged.
//
// The order holds because keys of zeros only sort before all others, whatever their length. At the
// first byte of the other key that is not zero, they have either ended or have a smaller byte.

// keyCoding maps keys to the keys that an engine stores, and back.
type keyCoding struct {
	raw   bool // keys are stored unchanged, and the empty key is refused
	limit int  // longest key, bytes
}

// stored returns the key to look up for key.
func (c *keyCoding) stored(key []byte) []byte {
	if c.raw {
		return key
	}
	return nonEmpty(key)
}

// original undoes stored.
func (c *keyCoding) original(stored []byte) []byte {
	if c.raw {
		return stored
	}
	return original(stored)
}

// writable returns the key to store for key, or an error if it is too long or empty.
func (c *keyCoding) writable(key []byte) ([]byte, error) {
	if len(key) > c.limit {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrKeyTooLarge, len(key), c.limit)
	}
	if c.raw && len(key) == 0 {
		return nil, ErrEmptyKey
	}
	return c.stored(key), nil
}

// nonEmpty returns the stored form of key. It shares key's memory unless key consists of zeros.
func nonEmpty(key []byte) []byte {
	if !allZero(key) {
		return key
	}
	return make([]byte, len(key)+1)
}

// original undoes nonEmpty and shares stored's memory.
func original(stored []byte) []byte {
	if len(stored) == 0 || !allZero(stored) {
		return stored
	}
	return stored[: len(stored)-1 : len(stored)-1]
}

func allZero(key []byte) bool {
	for _, b := range key {
		if b != 0 {
			return false
		}
	}
	return true
}
