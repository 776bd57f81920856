package report

import (
	"bytes"
	"fmt"
	"image/color"
	"math"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
	"gonum.org/v1/plot/vg/vgsvg"

	"nvkv/bench"
)

// engineColors come from the palette of Okabe and Ito, which colour-blind people can distinguish.
// Other engines take the remaining colours in turn.
var engineColors = map[string]color.RGBA{
	"nvkv":           rgb(0x0072B2),
	"bbolt":          rgb(0xD55E00),
	"pebble":         rgb(0x009E73),
	bench.NoopEngine: rgb(0x999999),
}

var otherColors = []color.RGBA{rgb(0xCC79A7), rgb(0xE69F00), rgb(0x56B4E9)}

func rgb(v uint32) color.RGBA { return color.RGBA{byte(v >> 16), byte(v >> 8), byte(v), 255} }

func hexColor(c color.RGBA) string { return fmt.Sprintf("#%02X%02X%02X", c.R, c.G, c.B) }

// palette assigns a colour to each engine of a report.
func palette(engines []string) map[string]color.RGBA {
	colors := map[string]color.RGBA{}
	next := 0
	for _, e := range engines {
		c, ok := engineColors[e]
		if !ok {
			c = otherColors[next%len(otherColors)]
			next++
		}
		colors[e] = c
	}
	return colors
}

// The ink and grid colours of a plot inside the page are placeholders. inlineSVG replaces them by
// the page's own colours, so that they follow light and dark mode.
var (
	inkStandIn  = rgb(0x010203)
	gridStandIn = rgb(0x040506)
)

// theme is a style of drawing. A plot outside the page has its own key of colours.
type theme struct {
	ink, grid, ground color.Color
	alone             bool
}

var (
	onPage  = theme{ink: inkStandIn, grid: gridStandIn, ground: color.Transparent}
	onPaper = theme{ink: rgb(0x222222), grid: rgb(0xDDDDDD), ground: color.White, alone: true}
)

const (
	textSize  = vg.Length(11)
	titleSize = vg.Length(13)
	dotRadius = vg.Length(4)
	lineWidth = vg.Length(1.8)
	hairline  = vg.Length(0.6)
)

func sans(size vg.Length) font.Font {
	return font.Font{Typeface: "Liberation", Variant: "Sans", Size: size}
}

// newPlot returns an empty plot with a grid in the theme.
func (t theme) newPlot(title, x, y string) *plot.Plot {
	p := t.barePlot(title, x, y)
	grid := plotter.NewGrid()
	grid.Vertical.Color, grid.Vertical.Width = t.grid, hairline
	grid.Horizontal.Color, grid.Horizontal.Width = t.grid, hairline
	p.Add(grid)
	return p
}

// newRows returns an empty plot with vertical lines only.
func (t theme) newRows(title string) *plot.Plot {
	p := t.barePlot(title, "", "")
	grid := plotter.NewGrid()
	grid.Vertical.Color, grid.Vertical.Width = t.grid, hairline
	grid.Horizontal.Color = nil
	p.Add(grid)
	return p
}

func (t theme) barePlot(title, x, y string) *plot.Plot {
	p := plot.New()
	p.BackgroundColor = t.ground
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = title, x, y
	p.Title.TextStyle.Font, p.Title.TextStyle.Color, p.Title.Padding = sans(titleSize), t.ink, 6
	for _, axis := range []*plot.Axis{&p.X, &p.Y} {
		axis.Label.TextStyle.Font, axis.Label.TextStyle.Color, axis.Label.Padding = sans(textSize), t.ink, 4
		axis.Tick.Label.Font, axis.Tick.Label.Color = sans(textSize), t.ink
		axis.LineStyle.Color, axis.LineStyle.Width = t.ink, hairline
		axis.Tick.LineStyle.Color, axis.Tick.LineStyle.Width = t.ink, hairline
	}
	return p
}

// logAxis makes an axis logarithmic between the decades around its data.
func logAxis(a *plot.Axis, format func(float64) string) {
	a.Scale = plot.LogScale{}
	a.Min, a.Max = math.Max(a.Min, 1e-9)/1.25, a.Max*1.25
	a.Tick.Marker = logTicks{format}
}

// linearAxis makes an axis start at 0.
func linearAxis(a *plot.Axis, format func(float64) string) {
	a.Min, a.Max = 0, a.Max*1.08
	a.Tick.Marker = plot.TickerFunc(func(lo, hi float64) []plot.Tick {
		ticks := plot.DefaultTicks{}.Ticks(lo, hi)
		for i := range ticks {
			if ticks[i].Label != "" {
				ticks[i].Label = format(ticks[i].Value)
			}
		}
		return ticks
	})
}

// logTicks labels decades, or 1, 2 and 5 of each if there are few decades.
type logTicks struct{ format func(float64) string }

func (l logTicks) Ticks(lo, hi float64) []plot.Tick {
	var ticks []plot.Tick
	decades := math.Log10(hi / lo)
	for exp := math.Floor(math.Log10(lo)); exp <= math.Ceil(math.Log10(hi)); exp++ {
		for digit := 1.0; digit < 10; digit++ {
			v := digit * math.Pow(10, exp)
			if v < lo || v > hi {
				continue
			}
			label := ""
			if digit == 1 || decades < 1.6 && (digit == 2 || digit == 5) {
				label = l.format(v)
			}
			ticks = append(ticks, plot.Tick{Value: v, Label: label})
		}
	}
	return ticks
}

// inlineSVG draws p as an element of the page, as wide as the page allows.
func inlineSVG(p *plot.Plot, w, h vg.Length) (string, error) {
	text, err := svg(p, w, h)
	if err != nil {
		return "", err
	}
	start := max(0, strings.Index(text, "<svg"))
	end := start + strings.Index(text[start:], ">")
	if end < start {
		return "", fmt.Errorf("report: the plotting library wrote no SVG element")
	}
	head := fmt.Sprintf(`<svg class="plot" role="img" aria-label=%q viewBox="0 0 %g %g" xmlns="http://www.w3.org/2000/svg"`,
		p.Title.Text, float64(w), float64(h))
	text = head + text[end:]
	text = strings.ReplaceAll(text, hexColor(inkStandIn), "currentColor")
	return strings.ReplaceAll(text, hexColor(gridStandIn), "var(--grid)"), nil
}

func svg(p *plot.Plot, w, h vg.Length) (string, error) {
	canvas := vgsvg.New(w, h)
	p.Draw(inset(draw.New(canvas)))
	var out bytes.Buffer
	if _, err := canvas.WriteTo(&out); err != nil {
		return "", err
	}
	return out.String(), nil
}

// inset keeps drawings at the edges, above all labels, from being cut.
func inset(c draw.Canvas) draw.Canvas {
	return draw.Crop(c, 4, -16, 4, -6)
}

// png draws p for screens of twice the usual density.
func png(p *plot.Plot, w, h vg.Length) ([]byte, error) {
	canvas := vgimg.PngCanvas{Canvas: vgimg.NewWith(vgimg.UseWH(w, h), vgimg.UseDPI(144))}
	p.Draw(inset(draw.New(canvas)))
	var out bytes.Buffer
	_, err := canvas.WriteTo(&out)
	return out.Bytes(), err
}
