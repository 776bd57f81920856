package nvmap

// loadBarrier completes earlier loads before later loads (DMB ISHLD). Go's atomic loads have
// acquire order only: they order later accesses, not earlier ones.
//
//go:noescape
func loadBarrier()

// storeBarrier completes earlier stores before later stores (DMB ISHST). Go's atomic stores have
// release order only: they order earlier accesses, not later ones.
//
//go:noescape
func storeBarrier()
