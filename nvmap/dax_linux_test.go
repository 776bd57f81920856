package nvmap

import (
	"strings"
	"testing"
)

// TestPersistence checks that the promises for memory follow from the kernel's description, and
// that no description gives no promise.
func TestPersistence(t *testing.T) {
	for _, c := range []struct {
		sort, domain, provider string
		volatile, note         bool
		says                   string
	}{
		{"", "", "", true, true, "memory behind the device"},
		{"nd_volatile", "cpu_cache", "ACPI.NFIT", true, true, "memory behind the device"},
		{"nd_pmem", "", "e820", true, false, "set aside at boot"},
		{"nd_pmem", "cpu_cache", "ACPI.NFIT", false, false, "CPU's caches"},
		{"nd_pmem", "memory_controller", "ACPI.NFIT", false, false, "memory controller"},
		{"nd_pmem", "", "ACPI.NFIT", false, true, "as far as the firmware tells"},
	} {
		k := judge(c.sort, c.domain, c.provider)
		if k.volatile != c.volatile || (k.note != "") != c.note || !strings.Contains(k.domain, c.says) {
			t.Errorf("%+v: %+v", c, k)
		}
	}
	info := persistence{"a domain", "a note", true}.info(Info{Kind: "shm", Note: "a limit", Mover: "nt"}, "dax")
	if info != (Info{Kind: "dax", Domain: "a domain", Volatile: true, Note: "a limit; a note", Mover: "nt"}) {
		t.Errorf("%+v", info)
	}
}

func TestAbove(t *testing.T) {
	const region = "/sys/devices/LNXSYSTM:00/ACPI0012:00/ndbus0/region1"
	for _, dir := range []string{region, region + "/dax1.0/dax/dax1.0", region + "/namespace1.0/block/pmem1/pmem1p1"} {
		if got := above(dir, regionName); got != region {
			t.Errorf("above %s: %q", dir, got)
		}
	}
	if got := above("/sys/devices/platform/hmem.0/dax0.0", regionName); got != "" {
		t.Errorf("no region, yet %q", got)
	}
}
