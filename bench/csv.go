package bench

import (
	"encoding/csv"
	"fmt"
	"io"
	"strconv"
)

// csvColumns are the columns of WriteCSV. Their names are those of the JSON.
var csvColumns = []struct {
	name  string
	value func(Run) string
}{
	{"engine", func(r Run) string { return r.Engine }},
	{"workload", func(r Run) string { return r.Workload }},
	{"phase", func(r Run) string { return r.Phase }},
	{"threads", func(r Run) string { return strconv.Itoa(r.Threads) }},
	{"records", func(r Run) string { return fmt.Sprint(r.Records) }},
	{"value_bytes", func(r Run) string { return strconv.Itoa(r.ValueBytes) }},
	{"ops", func(r Run) string { return fmt.Sprint(r.Ops) }},
	{"seconds", func(r Run) string { return float(r.Seconds) }},
	{"ops_per_s", func(r Run) string { return float(r.OpsPerS) }},
	{"ops_per_s_min", func(r Run) string { return float(r.OpsPerSMin) }},
	{"ops_per_s_max", func(r Run) string { return float(r.OpsPerSMax) }},
	{"repetitions", func(r Run) string { return strconv.Itoa(r.Repetitions) }},
	{"p50_ns", func(r Run) string { return fmt.Sprint(r.P50) }},
	{"p99_ns", func(r Run) string { return fmt.Sprint(r.P99) }},
	{"p999_ns", func(r Run) string { return fmt.Sprint(r.P999) }},
	{"max_ns", func(r Run) string { return fmt.Sprint(r.Max) }},
	{"user_bytes", func(r Run) string { return fmt.Sprint(r.UserBytes) }},
	{"media_bytes", func(r Run) string { return fmt.Sprint(r.MediaBytes) }},
	{"write_amplification", func(r Run) string { return float(r.WriteAmp) }},
	{"fences", func(r Run) string { return fmt.Sprint(r.Fences) }},
	{"disk_bytes", func(r Run) string { return fmt.Sprint(r.DiskBytes) }},
	{"space_amplification", func(r Run) string { return float(r.SpaceAmp) }},
	{"rss_anon_bytes", func(r Run) string { return fmt.Sprint(r.RSSAnonBytes) }},
	{"cpu_seconds", func(r Run) string { return float(r.CPUSeconds) }},
	{"other_cores", func(r Run) string { return float(r.OtherCores) }},
	{"flush_seconds", func(r Run) string { return float(r.FlushSeconds) }},
	{"harness_ns_per_op", func(r Run) string { return float(r.HarnessNs) }},
	{"checked", func(r Run) string { return fmt.Sprint(r.Checked) }},
	{"capped", func(r Run) string { return strconv.FormatBool(r.Capped) }},
}

func float(v float64) string { return strconv.FormatFloat(v, 'g', 8, 64) }

// WriteCSV writes one line per run, with a header.
func (r *Report) WriteCSV(w io.Writer) error {
	out := csv.NewWriter(w)
	line := make([]string, len(csvColumns))
	for i, c := range csvColumns {
		line[i] = c.name
	}
	if err := out.Write(line); err != nil {
		return err
	}
	for _, run := range r.Runs {
		for i, c := range csvColumns {
			line[i] = c.value(run)
		}
		if err := out.Write(line); err != nil {
			return err
		}
	}
	out.Flush()
	return out.Error()
}
