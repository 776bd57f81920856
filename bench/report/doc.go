// Package report turns a benchmark's figures into pictures and one
// self-contained page: no script, no font, no file beside it, readable on a
// phone, on paper and in the dark.
//
// Throughput spans three decades between engines, so the axes are logarithmic;
// and since bars on such an axis lie about proportions, figures are dots, with
// the spread of the repetitions as a line through them.
package report
