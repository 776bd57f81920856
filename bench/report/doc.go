// Package report turns a benchmark's figures into plots and one self-contained HTML page. The page
// needs no script, font or other file, and is readable on a phone, on paper and in dark mode.
//
// Throughput spans three decades between engines, so the axes are logarithmic. Bars on such an axis
// misrepresent proportions, so figures are dots, each with a line for the spread of the
// repetitions.
package report
