package bench

import "golang.org/x/sys/unix"

// directFlag makes an open file bypass the page cache.
const directFlag = unix.O_DIRECT
