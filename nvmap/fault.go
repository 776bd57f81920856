package nvmap

// faulted turns what recover returned into a FaultError if it is a memory fault
// inside one of the regions. Any other panic goes on.
func faulted(r any, op string, regions ...*region) *FaultError {
	if f, ok := r.(interface{ Addr() uintptr }); ok {
		for _, g := range regions {
			if o, in := g.contains(f.Addr()); in {
				return &FaultError{Off: Off(o), Op: op, Err: r.(error)}
			}
		}
	}
	panic(r)
}
