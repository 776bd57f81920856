//go:build race

package nvmaptest

const raceEnabled = true
