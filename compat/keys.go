package compat

import "fmt"

// bbolt refuses the empty key, and pebble 2.1 panics in the background when
// it writes a table block that holds nothing else. Both therefore store keys
// mapped one to one, and in the same order, onto the keys that are not empty:
// a key of zero bytes only, the empty one included, gets one zero more, and
// any other key stays as it is.
//
// The order holds because keys of zeros only come before all others, whatever
// their length: at the other key's first byte that is not zero they either
// have ended or have a smaller byte.

// keyCoding turns keys into those that an engine stores, and back.
type keyCoding struct {
	raw   bool // keys are stored as they are, and the empty one is refused
	limit int  // longest key, bytes
}

// stored returns the key under which key is to be found.
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

// writable returns the key under which key is to be put.
func (c *keyCoding) writable(key []byte) ([]byte, error) {
	if len(key) > c.limit {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrKeyTooLarge, len(key), c.limit)
	}
	if c.raw && len(key) == 0 {
		return nil, ErrEmptyKey
	}
	return c.stored(key), nil
}

// nonEmpty returns the key under which key is stored. It shares key's memory
// unless key is made of zeros.
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
