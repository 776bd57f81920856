package bench

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// mapRow has the results of one contestant with one number of threads.
type mapRow struct {
	engine  string
	threads int
	runs    map[string]Run // by test
}

// isMap reports whether the report is of maps.
func (r *Report) isMap() bool { return len(r.Runs) > 0 && r.Runs[0].Phase == "map" }

func (r *Report) mapRows() (rows []mapRow) {
	for _, run := range r.Runs {
		i := slices.IndexFunc(rows, func(row mapRow) bool { return row.engine == run.Engine && row.threads == run.Threads })
		if i < 0 {
			i = len(rows)
			rows = append(rows, mapRow{run.Engine, run.Threads, map[string]Run{}})
		}
		rows[i].runs[run.Workload] = run
	}
	return rows
}

// writeMaps writes a line per contestant with the result of each test and the ratio to the kernel's
// mapping with the same number of threads.
func (r *Report) writeMaps(w io.Writer) error {
	rows := r.mapRows()
	pages := float64(r.Runs[0].Records)
	fmt.Fprintf(w, "device of %s, memory for %s of it\n\n", Bytes(pages*pageBytes), Bytes(pages*pageBytes/mapCacheShare))
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(t, "contestant\tthr\tseq write/s\tx mmap\tseq read/s\tx mmap\trandom reads/s\tx mmap\tp50\tp99\twrite amp\thits\tzipfian stores/s\tx mmap\twritten/stored\t\n")
	for _, row := range rows {
		base := mapBase(rows, row.threads)
		random := row.runs[mapRandRead]
		fmt.Fprintf(t, "%s\t%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t\n", row.engine, row.threads,
			row.perSecond(mapSeqWrite), row.ratio(base, mapSeqWrite), row.perSecond(mapSeqRead), row.ratio(base, mapSeqRead),
			Count(random.OpsPerS)+random.mark(), row.ratio(base, mapRandRead), Duration(random.P50), Duration(random.P99),
			dashed(row.runs[mapSeqWrite].WriteAmp, Ratio), row.hits(),
			Count(row.runs[mapZipf].OpsPerS)+row.runs[mapZipf].mark(), row.ratio(base, mapZipf), dashed(row.runs[mapZipf].WriteAmp, Ratio))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, note := range mapNotes(rows) {
		fmt.Fprintln(w, note)
	}
	_, err := fmt.Fprintf(w, "sequential: whole pages, writing until all is durable; random: 8 bytes of each page once, p50 and p99 of these\n"+
		"hits: of sequential and random reads together, in DRAM frames; zipfian: stores of 64 bytes until all is durable, and\n"+
		"the bytes that the medium, or the kernel for mmap and pread, was given for each byte stored\n! other processes were using more than %v cores meanwhile\n", noisyCores)
	return err
}

const pageBytes = 4096

// mapNotes returns each note with its contestants.
func mapNotes(rows []mapRow) (lines []string) {
	whose := map[string][]string{}
	var notes []string
	for _, row := range rows {
		for _, run := range row.runs {
			if run.Note == "" || slices.Contains(whose[run.Note], row.engine) {
				continue
			}
			if whose[run.Note] == nil {
				notes = append(notes, run.Note)
			}
			whose[run.Note] = append(whose[run.Note], row.engine)
		}
	}
	for _, note := range notes {
		lines = append(lines, strings.Join(whose[note], ", ")+": "+note)
	}
	return lines
}

// mapBase returns the row of the kernel's mapping with the same number of threads.
func mapBase(rows []mapRow, threads int) mapRow {
	i := slices.IndexFunc(rows, func(row mapRow) bool { return row.engine == MmapContestant && row.threads == threads })
	if i < 0 {
		return mapRow{}
	}
	return rows[i]
}

func (row mapRow) perSecond(test string) string {
	run := row.runs[test]
	return Bytes(run.OpsPerS*float64(run.ValueBytes)) + run.mark()
}

func (row mapRow) ratio(base mapRow, test string) string {
	b := base.runs[test].OpsPerS
	if b == 0 {
		return "-"
	}
	return Ratio(row.runs[test].OpsPerS / b)
}

func (row mapRow) hits() string {
	var hits, all uint64
	for _, test := range []string{mapSeqRead, mapRandRead} {
		hits += row.runs[test].CacheHits
		all += row.runs[test].CacheHits + row.runs[test].CacheMisses
	}
	if all == 0 {
		return "-"
	}
	return fmt.Sprintf("%.0f%%", 100*float64(hits)/float64(all))
}
