//go:build unix && !linux

package bench

// directFlag is nothing: files go through the page cache.
const directFlag = 0
