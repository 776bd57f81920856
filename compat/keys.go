package compat

// bbolt refuses the empty key, and pebble 2.1 panics in the background when
// it writes a table block that holds nothing else. Both therefore store keys
// mapped one to one, and in the same order, onto the keys that are not empty:
// a key of zero bytes only, the empty one included, gets one zero more, and
// any other key stays as it is.
//
// The order holds because keys of zeros only come before all others, whatever
// their length: at the other key's first byte that is not zero they either
// have ended or have a smaller byte.

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
