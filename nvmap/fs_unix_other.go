//go:build unix && !linux

package nvmap

import (
	"os"

	"golang.org/x/sys/unix"
)

// fsInfo holds the properties of a file system that matter here.
type fsInfo struct {
	name   string
	memory bool  // its files are memory, to be mapped and stored into
	unit   int64 // granularity of its mappings
}

func fileSystem(f *os.File) (fsInfo, error) {
	return fsInfo{name: "a file system", unit: max(PageBytes, int64(os.Getpagesize()))}, nil
}

// allocateBlocks gives [off, off+n) blocks by writing zeros from the end of the file.
func allocateBlocks(f *os.File, off, n int64) error {
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	end := off + n
	off = max(off, fi.Size())
	return writeZeros(f, off, end-off)
}

// refillBlocks does nothing, because punchHole makes no holes.
func refillBlocks(f *os.File, off, n int64) error { return nil }

func isDAX(f *os.File) bool { return false }

func punchHole(f *os.File, off, n int64) error { return unix.EOPNOTSUPP }

func dataSync(f *os.File) error { return f.Sync() }

func lockHolder(f *os.File) (words string, lives bool) { return "", true }
