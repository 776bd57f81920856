package convert

import (
	"bytes"
	"errors"
	"fmt"
)

// These bytes follow a zero in a joined key; see the package comment.
const (
	zeroEscape = 0xff // the zero belongs to the name or key
	nameEnd    = 0x01 // the zero ends the name of a bucket
)

// appendEscaped appends a bucket name or a key.
func appendEscaped(dst, name []byte) []byte {
	for _, b := range name {
		dst = append(dst, b)
		if b == 0 {
			dst = append(dst, zeroEscape)
		}
	}
	return dst
}

// appendBucket appends a bucket name and its end.
func appendBucket(dst, name []byte) []byte {
	return append(appendEscaped(dst, name), 0, nameEnd)
}

// splitJoined returns the buckets of a joined key and the key in the last of them, which is empty
// if it represents the bucket.
func splitJoined(joined []byte) (buckets [][]byte, key []byte, err error) {
	var name []byte
	for rest := joined; ; {
		zero := bytes.IndexByte(rest, 0)
		if zero < 0 {
			return buckets, append(name, rest...), nil
		}
		name = append(name, rest[:zero]...)
		rest = rest[zero+1:]
		switch {
		case len(rest) > 0 && rest[0] == zeroEscape:
			name = append(name, 0)
		case len(rest) > 0 && rest[0] == nameEnd:
			if len(name) == 0 {
				return nil, nil, errors.New("a bucket without a name")
			}
			buckets = append(buckets, name)
			name = nil
		default:
			return nil, nil, errors.New("a zero byte that is neither escaped nor the end of a bucket's name")
		}
		rest = rest[1:]
	}
}

// quoted returns a key for an error text, truncated if it is long.
func quoted(key []byte) string {
	const limit = 64
	if len(key) <= limit {
		return fmt.Sprintf("%q", key)
	}
	return fmt.Sprintf("%q... (%d bytes)", key[:limit], len(key))
}
