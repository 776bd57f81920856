//go:build !race

package nvmaptest

const raceEnabled = false
