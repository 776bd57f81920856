package kvprom

import (
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"

	"nvkv/kv"
)

// scraped returns the metrics of a store after some calls.
func scraped(t *testing.T, o kv.Options) (*kv.DB, *prometheus.Registry, map[string]*dto.MetricFamily) {
	t.Helper()
	o.Device = "mem"
	db, err := kv.Open("", &o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	for i := range 10 {
		if err := db.Put([]byte{byte(i)}, []byte("value")); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := db.Get([]byte{1}); err != nil {
		t.Fatal(err)
	}
	if err := db.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(New(db, "test"))
	return db, r, gather(t, r)
}

func gather(t *testing.T, r *prometheus.Registry) map[string]*dto.MetricFamily {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]*dto.MetricFamily{}
	for _, f := range families {
		found[f.GetName()] = f
	}
	return found
}

func TestCollect(t *testing.T) {
	db, r, got := scraped(t, kv.Options{TimeOneIn: 1})
	for name, want := range map[string]float64{"nvkv_up": 1, "nvkv_keys": 10, "nvkv_checkpoints_total": 1, "nvkv_read_only": 0} {
		m := got[name].GetMetric()
		if len(m) != 1 {
			t.Fatalf("%s: %v", name, m)
		}
		if v := m[0].GetGauge().GetValue() + m[0].GetCounter().GetValue(); v != want {
			t.Errorf("%s is %v, want %v", name, v, want)
		}
		if l := m[0].GetLabel(); len(l) != 1 || l[0].GetName() != "store" || l[0].GetValue() != "test" {
			t.Errorf("%s has the labels %v", name, l)
		}
	}
	if n := len(got["nvkv_media_bytes_total"].GetMetric()); n != 3 {
		t.Errorf("%d kinds of bytes to the medium, want 3", n)
	}
	problems, err := testutil.GatherAndLint(r)
	if err != nil || len(problems) > 0 {
		t.Errorf("against the conventions: %v, %v", problems, err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if closed := gather(t, r); len(closed) != 1 || closed["nvkv_up"].GetMetric()[0].GetGauge().GetValue() != 0 {
		t.Errorf("a closed store has the metrics %v", closed)
	}
}

func TestHistograms(t *testing.T) {
	_, _, off := scraped(t, kv.Options{})
	if f := off["nvkv_call_duration_seconds"]; f != nil {
		t.Errorf("without TimeOneIn there is %v", f)
	}
	_, _, got := scraped(t, kv.Options{TimeOneIn: 1})
	counts := map[string]uint64{}
	for _, m := range got["nvkv_call_duration_seconds"].GetMetric() {
		h := m.GetHistogram()
		for _, l := range m.GetLabel() {
			if l.GetName() == "call" {
				counts[l.GetValue()] = h.GetSampleCount()
			}
		}
		var last uint64
		for _, b := range h.GetBucket() {
			if b.GetCumulativeCount() < last {
				t.Errorf("the counts fall from %d to %d", last, b.GetCumulativeCount())
			}
			last = b.GetCumulativeCount()
		}
		if n := len(h.GetBucket()); n != lastBucketBit-firstBucketBit+1 || last != h.GetSampleCount() {
			t.Errorf("%d buckets with %d of %d calls", n, last, h.GetSampleCount())
		}
	}
	if want := (map[string]uint64{"get": 1, "put": 10, "delete": 0, "write": 0, "commit": 0}); !reflect.DeepEqual(counts, want) {
		t.Errorf("timed %v, want %v", counts, want)
	}
}

// TestBuckets checks that no latency is counted in a bucket that ends before it.
func TestBuckets(t *testing.T) {
	h := kv.LatencyHistogram{Count: 6, Buckets: []kv.LatencyBucket{{Below: 128, Count: 1}, {Below: 144, Count: 2}, {Below: 256, Count: 2}, {Below: 1 << 38, Count: 1}}}
	got := buckets(&h)
	for end, want := range map[time.Duration]uint64{128: 1, 256: 5, 512: 5, 1 << lastBucketBit: 5} {
		if got[end.Seconds()] != want {
			t.Errorf("%d calls up to %v, want %d", got[end.Seconds()], end, want)
		}
	}
}

// notExported lists the fields of kv.Metrics that have no metric of their own.
var notExported = map[string]string{
	"Account":    "nvkv stats prints it",
	"MediaBytes": "the sum of nvkv_media_bytes_total", "WriteAmp": "a quotient of two counters",
	"WearGroups": "a constant of the size", "LastTransaction": "an identifier", "StoreID": "an identifier", "FormatGeneration": "an identifier",
}

// TestEveryField checks that each field of kv.Metrics changes a metric, so that a new field is not
// forgotten here.
func TestEveryField(t *testing.T) {
	all := func(m *kv.Metrics) (values []float64) {
		for _, f := range figures {
			if f.of != nil {
				values = append(values, f.of(m))
			}
			for _, k := range f.kinds {
				values = append(values, k.of(m))
			}
		}
		return values
	}
	zero := all(&kv.Metrics{})
	for i := range reflect.TypeFor[kv.Metrics]().NumField() {
		var m kv.Metrics
		name := reflect.TypeFor[kv.Metrics]().Field(i).Name
		switch v := reflect.ValueOf(&m).Elem().Field(i); {
		case v.CanInt():
			v.SetInt(7)
		case v.CanUint():
			v.SetUint(7)
		case v.CanFloat():
			v.SetFloat(7)
		case v.Kind() == reflect.Bool:
			v.SetBool(true)
		}
		if shown, why := !reflect.DeepEqual(all(&m), zero), notExported[name]; shown == (why != "") {
			t.Errorf("%s: exported %v, but: %q", name, shown, why)
		}
	}
}

var metricName = regexp.MustCompile(`\bnvkv_\w+`)

// TestDashboard loads docs/grafana-dashboard.json and looks for each metric that it names in the
// output of a collector.
func TestDashboard(t *testing.T) {
	text, err := os.ReadFile("../../docs/grafana-dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		Title, UID string
		Templating struct{ List []struct{ Name string } }
		Panels     []struct {
			ID          int
			Title, Type string
			GridPos     struct{ X, Y, W, H int }
			Targets     []struct{ RefID, Expr string }
		}
	}
	if err := json.Unmarshal(text, &board); err != nil {
		t.Fatal(err)
	}
	_, _, got := scraped(t, kv.Options{TimeOneIn: 1})
	names, ids, cells := 0, map[int]bool{}, map[string]string{}
	for _, p := range board.Panels {
		if ids[p.ID] || p.Title == "" || p.GridPos.X+p.GridPos.W > 24 {
			t.Errorf("panel %d, %q: used twice, without a title, or too wide", p.ID, p.Title)
		}
		ids[p.ID] = true
		for x := range p.GridPos.W {
			for y := range p.GridPos.H {
				cell := fmt.Sprint(p.GridPos.X+x, " ", p.GridPos.Y+y)
				if cells[cell] != "" {
					t.Fatalf("%q covers %q", p.Title, cells[cell])
				}
				cells[cell] = p.Title
			}
		}
		if (p.Type == "row") == (len(p.Targets) > 0) {
			t.Errorf("%q is a %s with %d targets", p.Title, p.Type, len(p.Targets))
		}
		for _, target := range p.Targets {
			if strings.Count(target.Expr, "(") != strings.Count(target.Expr, ")") || !strings.Contains(target.Expr, `store="$store"`) {
				t.Errorf("%q: %s", p.Title, target.Expr)
			}
			for _, name := range metricName.FindAllString(target.Expr, -1) {
				names++
				family := got[strings.TrimSuffix(name, "_bucket")]
				if family == nil {
					t.Errorf("%q shows %s, which is not exported", p.Title, name)
				} else if rated := strings.Contains(target.Expr, "rate("+name); rated == (family.GetType() == dto.MetricType_GAUGE) {
					t.Errorf("%q: %s is a %s: %s", p.Title, name, family.GetType(), target.Expr)
				}
			}
		}
	}
	if len(board.Panels) < 10 || names < 20 || len(board.Templating.List) != 2 || board.UID == "" {
		t.Errorf("%d panels with %d metrics", len(board.Panels), names)
	}
}
