//go:build unix && !linux

package nvmap

const shmSupported = false

// newShm is not reached: newFileDevice refuses the kind.
func newShm(fm *fileMap) Device { return newFile(fm) }
