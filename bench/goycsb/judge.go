package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
)

func middle(list []float64) float64 {
	list = slices.Clone(list)
	slices.Sort(list)
	return list[(len(list)-1)/2]
}

// judge prints both measurements side by side. It returns an error if they rank a pair of engines
// differently, or if an engine's times differ by more than the tolerance.
func judge(w io.Writer, engines, workloads []string, theirs, own times, tolerance float64) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "workload\tengine\tgo-ycsb ns/op\tof it its own\tnet\tthis benchmark, net\tdifference\t")
	var wrong []string
	for _, workload := range workloads {
		net := times{}
		for _, engine := range engines {
			mine, overhead := own[engine][workload], theirs[noop][workload]
			left := theirs[engine][workload] - overhead
			off := left/mine - 1
			fmt.Fprintf(t, "%s\t%s\t%.0f\t%.0f\t%.0f\t%.0f\t%+.0f%%\t\n", workload, engine, theirs[engine][workload], overhead, left, mine, off*100)
			if math.Abs(off) > tolerance {
				wrong = append(wrong, fmt.Sprintf("%s on %s: %+.0f%%", workload, engine, off*100))
			}
			net[engine] = map[string]float64{"theirs": left, "own": mine}
		}
		wrong = append(wrong, misranked(workload, engines, net, tolerance)...)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if len(wrong) > 0 {
		return errors.New("the benchmarks disagree: " + strings.Join(wrong, "; "))
	}
	_, err := fmt.Fprintln(w, "the engines are ranked the same")
	return err
}

// misranked returns the pairs that the two measurements rank differently. Pairs closer than the
// tolerance have no rank.
func misranked(workload string, engines []string, net times, tolerance float64) (wrong []string) {
	for i, a := range engines {
		for _, b := range engines[i+1:] {
			theirs, own := net[a]["theirs"]/net[b]["theirs"], net[a]["own"]/net[b]["own"]
			if (theirs > 1) != (own > 1) && math.Abs(math.Log(theirs/own)) > math.Log1p(tolerance) {
				wrong = append(wrong, fmt.Sprintf("%s ranks %s and %s the other way round", workload, a, b))
			}
		}
	}
	return wrong
}
