//go:build amd64 || arm64

package nvmap

// SetPagedTrip makes the pagers of maps that are opened from now on kill themselves at a step. ""
// undoes it.
func SetPagedTrip(at string) { pagedTrip = at }

// Processes returns the process ids of supervisor and pager. The pager may have ended.
func (p *Paged) Processes() (supervisor, pager int) { return p.c.Processes() }

// PagedCacheLeast is the least CacheBytes of a transparent map.
const PagedCacheLeast = pagedCacheLeast
