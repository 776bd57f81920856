package ycsb

import (
	"embed"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

//go:embed workloads/workload*
var coreFiles embed.FS

// CoreNames lists the core workloads in the order of YCSB's documentation: those that only update
// first, then D, whose inserts make the store grow, then E, which reads it in ranges.
var CoreNames = []string{"a", "b", "c", "f", "d", "e"}

// EView names workload E with each scan in a snapshot of its own, as most programs scan.
const EView = "e-view"

// Core returns the property file of a core workload, "a" to "f", or the properties of EView.
func Core(name string) (Properties, error) {
	name = strings.TrimPrefix(strings.ToLower(name), "workload")
	if name == EView {
		p, err := Core("e")
		if err == nil {
			p["scansnapshot"] = "true"
		}
		return p, err
	}
	if !slices.Contains(CoreNames, name) {
		return nil, fmt.Errorf("ycsb: no core workload %q: there are a, b, c, d, e, f and %s", name, EView)
	}
	f, err := coreFiles.Open("workloads/workload" + name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return ReadProperties(f, "workload"+name)
}

// Distribution names a key chooser.
type Distribution string

// These are the request distributions of YCSB.
const (
	Uniform     Distribution = "uniform"
	Zipfian     Distribution = "zipfian" // scrambled, constant 0.99
	Latest      Distribution = "latest"
	HotSpot     Distribution = "hotspot"
	Exponential Distribution = "exponential"
	Sequential  Distribution = "sequential"
)

// Workload is a checked set of properties. Proportions are relative weights.
type Workload struct {
	RecordCount    uint64 // records of all clients together
	OperationCount uint64 // operations of the run phase, over all threads
	InsertStart    uint64 // number of the first record
	InsertCount    uint64 // records that the load phase inserts and the run phase reads
	ThreadCount    int
	Target         float64 // operations per second over all threads; 0 = no limit
	MaxSeconds     float64 // maxexecutiontime; 0 = no limit

	Read, Update, Insert, Scan, ReadModifyWrite float64

	Request            Distribution
	HotDataFraction    float64 // hotspotdatafraction
	HotOpFraction      float64 // hotspotopnfraction
	ExponentialPercent float64 // exponential.percentile
	ExponentialFrac    float64 // exponential.frac

	ScanLengths   Distribution // uniform or zipfian
	MinScanLength int
	MaxScanLength int
	ScanSnapshot  bool // scansnapshot: each scan opens a snapshot and closes it
	ReadBatch     int  // readbatch: a read looks up so many keys together; 1: one, by itself

	OrderedInserts bool
	KeyDigits      int // zeropadding

	Fields         int
	FieldBytes     int          // the longest field
	FieldBytesMin  int          // the shortest, if FieldLengths varies
	FieldLengths   Distribution // constant, uniform or zipfian
	ReadAllFields  bool
	WriteAllFields bool
}

// ConstantLength gives every field the full length.
const ConstantLength Distribution = "constant"

// ignored are settings of other clients, of measurement and of bindings, which have no meaning
// here. They are accepted, because shared property files have them, and reported.
var ignored = []string{
	"db", "table", "exporter", "exportfile", "measurementtype", "measurement.interval", "fieldnameprefix",
	"status.interval", "core_workload_insertion_retry_limit", "core_workload_insertion_retry_interval",
	"dataintegrity", "verbose", "silence", "command", "outputstyle",
}

const coreClass = "CoreWorkload"

// Parse checks p and sets YCSB's defaults. The second result names the settings that have no
// meaning here and were ignored. A setting that YCSB does not know is an error, because it is
// probably misspelt.
func Parse(p Properties) (*Workload, []string, error) {
	r := &reader{from: p, used: map[string]bool{}}
	w := r.workload()
	skipped, err := r.leftovers()
	if err := errors.Join(append(r.errs, err, w.validate())...); err != nil {
		return nil, nil, err
	}
	return w, skipped, nil
}

func (r *reader) workload() *Workload {
	w := &Workload{
		RecordCount: r.count("recordcount", 0), OperationCount: r.count("operationcount", 1000),
		InsertStart: r.count("insertstart", 0), ThreadCount: int(r.count("threadcount", 1)),
		Target: r.number("target", 0), MaxSeconds: r.number("maxexecutiontime", 0),
		Read: r.number("readproportion", 0.95), Update: r.number("updateproportion", 0.05),
		Insert: r.number("insertproportion", 0), Scan: r.number("scanproportion", 0),
		ReadModifyWrite:    r.number("readmodifywriteproportion", 0),
		Request:            r.choice("requestdistribution", Uniform, Zipfian, Latest, HotSpot, Exponential, Sequential),
		HotDataFraction:    r.number("hotspotdatafraction", 0.2),
		HotOpFraction:      r.number("hotspotopnfraction", 0.8),
		ExponentialPercent: r.number("exponential.percentile", 95),
		ExponentialFrac:    r.number("exponential.frac", 0.8571428571),
		ScanLengths:        r.choice("scanlengthdistribution", Uniform, Zipfian),
		MinScanLength:      int(r.count("minscanlength", 1)), MaxScanLength: int(r.count("maxscanlength", 1000)),
		ScanSnapshot: r.truth("scansnapshot", false), ReadBatch: int(r.count("readbatch", 1)),
		OrderedInserts: r.choice("insertorder", "hashed", "ordered") == "ordered",
		KeyDigits:      int(r.count("zeropadding", 1)),
		Fields:         int(r.count("fieldcount", 10)), FieldBytes: int(r.count("fieldlength", 100)),
		FieldBytesMin: int(r.count("minfieldlength", 1)),
		FieldLengths:  r.choice("fieldlengthdistribution", ConstantLength, Uniform, Zipfian),
		ReadAllFields: r.truth("readallfields", true), WriteAllFields: r.truth("writeallfields", false),
	}
	w.InsertCount = r.count("insertcount", w.RecordCount-min(w.InsertStart, w.RecordCount))
	if class := r.text("workload", coreClass); !strings.HasSuffix(class, coreClass) && class != "core" {
		r.fail("workload", class, "only the core workload is here")
	}
	return w
}

func (w *Workload) validate() error {
	switch {
	case w.ThreadCount < 1 || w.ThreadCount > 1024:
		return fmt.Errorf("ycsb: threadcount=%d: from 1 to 1024", w.ThreadCount)
	case w.Read+w.Update+w.Insert+w.Scan+w.ReadModifyWrite <= 0:
		return errors.New("ycsb: every proportion is 0: nothing to do")
	case w.MinScanLength < 1 || w.MaxScanLength < w.MinScanLength:
		return fmt.Errorf("ycsb: minscanlength=%d, maxscanlength=%d: needs 1 <= min <= max", w.MinScanLength, w.MaxScanLength)
	case w.ReadBatch < 1 || w.ReadBatch > 1<<16:
		return fmt.Errorf("ycsb: readbatch=%d: from 1 to 65536", w.ReadBatch)
	case w.KeyDigits > 64:
		return fmt.Errorf("ycsb: zeropadding=%d: at most 64", w.KeyDigits)
	case w.Fields < 1:
		return errors.New("ycsb: fieldcount=0: a record has at least one field")
	case w.Fields > 1<<16 || w.FieldBytes > 1<<30/w.Fields:
		return fmt.Errorf("ycsb: fieldcount=%d, fieldlength=%d: at most 65536 fields and 1 GiB a record", w.Fields, w.FieldBytes)
	case w.FieldBytesMin > w.FieldBytes && w.FieldLengths != ConstantLength:
		return fmt.Errorf("ycsb: minfieldlength=%d is more than fieldlength=%d", w.FieldBytesMin, w.FieldBytes)
	case w.HotDataFraction > 1 || w.HotOpFraction > 1:
		return errors.New("ycsb: hotspotdatafraction and hotspotopnfraction lie between 0 and 1")
	case w.ExponentialPercent <= 0 || w.ExponentialPercent >= 100 || w.ExponentialFrac <= 0:
		return errors.New("ycsb: exponential.percentile lies between 0 and 100, exponential.frac above 0")
	case w.RecordCount > math.MaxUint32 || w.OperationCount > math.MaxUint32:
		return errors.New("ycsb: recordcount and operationcount are at most 4294967295")
	case w.InsertStart+w.InsertCount > math.MaxUint32:
		return errors.New("ycsb: insertstart + insertcount is at most 4294967295")
	}
	return nil
}

// reader takes settings out of Properties and gathers their errors.
type reader struct {
	from Properties
	used map[string]bool
	errs []error
}

func (r *reader) fail(name, value, why string) {
	r.errs = append(r.errs, fmt.Errorf("ycsb: %s=%s: %s", name, value, why))
}

func (r *reader) text(name, def string) string {
	r.used[name] = true
	if v, ok := r.from[name]; ok {
		return v
	}
	return def
}

func (r *reader) count(name string, def uint64) uint64 {
	v := r.text(name, strconv.FormatUint(def, 10))
	n, err := strconv.ParseUint(v, 10, 64)
	if err != nil || n > math.MaxInt32*2 {
		r.fail(name, v, "not a whole number between 0 and 4294967294")
		return def
	}
	return n
}

func (r *reader) number(name string, def float64) float64 {
	v := r.text(name, strconv.FormatFloat(def, 'g', -1, 64))
	n, err := strconv.ParseFloat(v, 64)
	if err != nil || n < 0 || math.IsInf(n, 0) || math.IsNaN(n) {
		r.fail(name, v, "not a number from 0 up")
		return def
	}
	return n
}

func (r *reader) truth(name string, def bool) bool {
	v := r.text(name, strconv.FormatBool(def))
	b, err := strconv.ParseBool(v)
	if err != nil {
		r.fail(name, v, "neither true nor false")
		return def
	}
	return b
}

// choice returns one of the allowed values; the first is the default.
func (r *reader) choice(name string, allowed ...Distribution) Distribution {
	v := Distribution(r.text(name, string(allowed[0])))
	if !slices.Contains(allowed, v) {
		r.fail(name, string(v), fmt.Sprintf("not one of %v", allowed))
		return allowed[0]
	}
	return v
}

// leftovers sorts the unused settings into settings of other programs and misspelt ones.
func (r *reader) leftovers() (skipped []string, err error) {
	for name, value := range r.from {
		switch {
		case r.used[name]:
		case slices.Contains(ignored, name) || strings.Contains(name, "."):
			skipped = append(skipped, name)
		default:
			err = errors.Join(err, fmt.Errorf("ycsb: %s=%s: no such setting", name, value))
		}
	}
	slices.Sort(skipped)
	return skipped, err
}
