package bbolt

import (
	stderrors "errors"
	"fmt"
	"io"

	"nvkv/compat/boltfile"
)

// readError is what methods panic with that have no error to return.
type readError struct{ err error }

func (e *readError) Error() string { return "bbolt on nvkv: reading: " + e.err.Error() }
func (e *readError) Unwrap() error { return e.err }

// caught turns such a panic into an error, as
//
//	defer caught(&err)
func caught(err *error) {
	switch p := recover().(type) {
	case nil:
	case *readError:
		*err = p
	default:
		panic(p)
	}
}

// WriteTo writes all that the Tx sees to w as a file of bbolt, which bbolt and its tools
// read: exactly Size bytes, of which those behind the last page are zeros. It reads
// everything twice.
func (tx *Tx) WriteTo(w io.Writer) (n int64, err error) {
	must(tx)
	defer caught(&err)
	out := &bounded{w: w, left: tx.Size()}
	size := out.left
	_, err = boltfile.Write(out, &boltfile.WriteOptions{PageBytes: tx.db.page}, func(root *boltfile.BucketWriter) error {
		return tx.root.writeTo(root)
	})
	if err == nil {
		_, err = io.CopyN(out, zeros{}, out.left)
	}
	return size - out.left, err
}

// writeTo puts the content of b into a bucket of a file.
func (b *Bucket) writeTo(w *boltfile.BucketWriter) error {
	w.SetSequence(b.Sequence())
	c := b.Cursor()
	for ok := c.move(toFirst, nil); ok; ok = c.move(toNext, nil) {
		var err error
		if c.tag() == tagBucket {
			err = w.Bucket(c.bare(), b.Bucket(c.bare()).writeTo)
		} else {
			err = w.Put(c.bare(), c.content())
		}
		if err != nil {
			return err
		}
	}
	return nil
}

var errLonger = stderrors.New("bbolt on nvkv: the file is longer than Size says")

// bounded writes as much as was promised and no more.
type bounded struct {
	w     io.Writer
	left  int64
	begun bool
}

func (b *bounded) Write(p []byte) (int, error) {
	if int64(len(p)) > b.left {
		return 0, fmt.Errorf("%w, by %d bytes or more", errLonger, int64(len(p))-b.left)
	}
	n, err := b.w.Write(p)
	if err != nil && !b.begun {
		err = fmt.Errorf("meta 0 copy: %w", err)
	}
	b.left, b.begun = b.left-int64(n), true
	return n, err
}

// zeros is a reader of zeros without end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
