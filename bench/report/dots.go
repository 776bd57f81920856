package report

import (
	"image/color"
	"math"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// dotRows is a plotter of rows from top to bottom. Each row has a dot per engine on a common axis,
// a line through the dot for its spread, and a note at the right. The engines have lanes of their
// own, one above the other, so that no dot hides another.
type dotRows struct {
	rows  []dotRow
	lanes int
	room  float64    // for notes, as a share of the width
	key   []keyEntry // drawn above the rows, if there is no other key
	theme theme
}

type keyEntry struct {
	name  string
	color color.Color
}

type dotRow struct {
	label string
	note  string // drawn at the right end
	dots  []dot
}

type dot struct {
	value, least, most float64
	lane               int
	color              color.Color
}

// Plot implements plot.Plotter.
func (d dotRows) Plot(c draw.Canvas, p *plot.Plot) {
	x, y := p.Transforms(&c)
	d.drawKey(c, p.X.Tick.Label, y(float64(len(d.rows))+1))
	for i, row := range d.rows {
		at := y(d.height(i))
		d.divide(c, y(d.height(i)-0.5))
		for _, dot := range row.dots {
			at := y(d.height(i) + d.lane(dot.lane))
			c.StrokeLine2(draw.LineStyle{Color: dot.color, Width: lineWidth}, x(dot.least), at, x(dot.most), at)
			c.DrawGlyph(draw.GlyphStyle{Color: dot.color, Radius: dotRadius, Shape: draw.CircleGlyph{}}, vg.Point{X: x(dot.value), Y: at})
		}
		if row.note != "" {
			style := p.X.Tick.Label
			style.XAlign, style.YAlign = draw.XRight, draw.YCenter
			c.FillText(style, vg.Point{X: c.Max.X, Y: at}, row.note)
		}
	}
}

// drawKey draws the key of colours in a line at the given height.
func (d dotRows) drawKey(c draw.Canvas, style draw.TextStyle, at vg.Length) {
	style.XAlign, style.YAlign = draw.XLeft, draw.YCenter
	left := c.Min.X + 2*dotRadius
	for _, e := range d.key {
		c.DrawGlyph(draw.GlyphStyle{Color: e.color, Radius: dotRadius, Shape: draw.CircleGlyph{}}, vg.Point{X: left, Y: at})
		c.FillText(style, vg.Point{X: left + 2*dotRadius, Y: at}, e.name)
		left += 2*dotRadius + style.Width(e.name) + 2*textSize
	}
}

// divide draws a faint line below a row.
func (d dotRows) divide(c draw.Canvas, at vg.Length) {
	c.StrokeLine2(draw.LineStyle{Color: d.theme.grid, Width: hairline}, c.Min.X, at, c.Max.X, at)
}

// lane returns how far above the middle of its row a lane lies. The first lane is on top.
func (d dotRows) lane(i int) float64 {
	return 0.76 * (float64(d.lanes-1)/2 - float64(i)) / float64(max(d.lanes, 2))
}

// height returns the y of a row. The first row is on top.
func (d dotRows) height(i int) float64 { return float64(len(d.rows) - i) }

// DataRange implements plot.DataRanger. If rows have notes, it leaves room for them at the right.
func (d dotRows) DataRange() (xmin, xmax, ymin, ymax float64) {
	xmin, xmax = math.Inf(1), math.Inf(-1)
	noted := false
	for _, row := range d.rows {
		noted = noted || row.note != ""
		for _, dot := range row.dots {
			xmin, xmax = math.Min(xmin, dot.least), math.Max(xmax, dot.most)
		}
	}
	if noted {
		xmax *= math.Pow(xmax/xmin, d.room)
	}
	top := float64(len(d.rows)) + 0.6
	if len(d.key) > 0 {
		top++
	}
	return xmin, xmax, 0.4, top
}

// ticks puts the labels of the rows on the y axis.
func (d dotRows) ticks() plot.Ticker {
	var ticks plot.ConstantTicks
	for i, row := range d.rows {
		ticks = append(ticks, plot.Tick{Value: d.height(i), Label: row.label})
	}
	return ticks
}
