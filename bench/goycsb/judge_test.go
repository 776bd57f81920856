package main

import (
	"io"
	"strings"
	"testing"
)

func TestJudge(t *testing.T) {
	theirs := func(a, b float64) times {
		return times{noop: {"c": 100}, "a": {"c": 100 + a}, "b": {"c": 100 + b}}
	}
	own := times{"a": {"c": 1000}, "b": {"c": 2000}}
	for name, c := range map[string]struct {
		a, b float64
		says string
	}{
		"same": {1000, 2000, ""}, "within": {1200, 1700, ""}, "too slow": {1500, 2000, "c on a: +50%"},
		"the other way round": {2000, 1000, "ranks a and b"},
	} {
		err := judge(io.Discard, []string{"a", "b"}, []string{"c"}, theirs(c.a, c.b), own, 0.25)
		if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if middle([]float64{3, 1, 2}) != 2 {
		t.Error("the middle of 1, 2, 3 is not 2")
	}
}
