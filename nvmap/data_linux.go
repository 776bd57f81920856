package nvmap

import (
	"errors"
	"io"

	"golang.org/x/sys/unix"
)

// NextData implements DataSeeker.
func (d *fileMap) NextData(off Off) (from, to Off, err error) {
	fi, err := d.f.Stat()
	if err != nil {
		return 0, 0, err
	}
	if !fi.Mode().IsRegular() {
		return 0, 0, errors.ErrUnsupported
	}
	start, err := d.seek(int64(off), unix.SEEK_DATA)
	switch {
	case errors.Is(err, unix.ENXIO):
		return 0, 0, io.EOF
	case errors.Is(err, unix.EINVAL): // the file system knows no holes
		if int64(off) >= fi.Size() {
			return 0, 0, io.EOF
		}
		return off, Off(fi.Size()), nil
	case err != nil:
		return 0, 0, err
	}
	end, err := d.seek(start, unix.SEEK_HOLE)
	if err != nil {
		return 0, 0, err
	}
	return Off(start), Off(end), nil
}

func (d *fileMap) seek(off int64, whence int) (at int64, err error) {
	err = retryIntr(func() error {
		at, err = unix.Seek(int(d.f.Fd()), off, whence)
		return err
	})
	return at, err
}
