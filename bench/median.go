package bench

import "slices"

// medians merges the repetitions of each run. The repetition with the median throughput represents
// all of them, so that its figures belong together. Its latencies are replaced by their medians,
// and the spread is added.
func medians(raw []Run) []Run {
	var order []runKey
	groups := map[runKey][]Run{}
	for _, r := range raw {
		k := r.key()
		if groups[k] == nil {
			order = append(order, k)
		}
		groups[k] = append(groups[k], r)
	}
	runs := make([]Run, 0, len(order))
	for _, k := range order {
		runs = append(runs, median(groups[k]))
	}
	return runs
}

func median(group []Run) Run {
	group = slices.Clone(group)
	slices.SortFunc(group, func(a, b Run) int {
		switch {
		case a.OpsPerS < b.OpsPerS:
			return -1
		case a.OpsPerS > b.OpsPerS:
			return 1
		}
		return 0
	})
	m := group[(len(group)-1)/2]
	m.Repetition, m.Repetitions = 0, len(group)
	m.OpsPerSMin, m.OpsPerSMax = group[0].OpsPerS, group[len(group)-1].OpsPerS
	m.P50 = medianOf(group, func(r Run) int64 { return r.P50 })
	m.P99 = medianOf(group, func(r Run) int64 { return r.P99 })
	m.P999 = medianOf(group, func(r Run) int64 { return r.P999 })
	m.Max = medianOf(group, func(r Run) int64 { return r.Max })
	return m
}

func medianOf(group []Run, field func(Run) int64) int64 {
	values := make([]int64, len(group))
	for i, r := range group {
		values[i] = field(r)
	}
	slices.Sort(values)
	return values[(len(values)-1)/2]
}
