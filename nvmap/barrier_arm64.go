package nvmap

// loadBarrier keeps the loads before it before the loads after it (DMB ISHLD):
// Go's atomic loads only hold back what follows them.
//
//go:noescape
func loadBarrier()

// storeBarrier keeps the stores before it before the stores after it (DMB
// ISHST): Go's atomic stores only hold back what precedes them.
//
//go:noescape
func storeBarrier()
