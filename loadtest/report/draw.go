package report

import (
	"bytes"
	"fmt"
	"html"
	"image/color"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize"
	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// A chart is as large in a picture's own units, and its texts too: on a phone they are still to be read.
const (
	width, height = 500.0, 320.0
	textSize      = 13.0
	smallSize     = 12.0
)

// largest is the largest value that is drawn, and smallest that of a logarithm's axis; nobody measures beyond.
const (
	largest  = 1e12
	smallest = 1e-3
)

// chart is a picture before it is drawn.
type chart struct {
	file, title, look string // look: what to look for in it
	x, y              axis
	lines             []line
	marks             []mark // along x
}

// line is a series of points with a look of its own.
type line struct {
	name   string
	points plotter.XYs
	pen    pen
	glyph  draw.GlyphDrawer // of points that are not in a row; nil: they are
}

// pen tells lines apart by their colours, which are those of Okabe and Ito, and for those who see none by their dashes.
type pen struct {
	color  color.Color
	dashes []vg.Length
}

func rgb(hex uint32) color.Color {
	return color.RGBA{R: uint8(hex >> 16), G: uint8(hex >> 8), B: uint8(hex), A: 0xff} //nolint:gosec // three bytes of a number
}

var (
	black     = pen{rgb(0x000000), []vg.Length{1.5, 2.5}}
	blue      = pen{rgb(0x0072b2), nil}
	vermilion = pen{rgb(0xd55e00), []vg.Length{7, 3}}
	green     = pen{rgb(0x009e73), []vg.Length{10, 2.5, 2, 2.5}}
	purple    = pen{rgb(0xcc79a7), []vg.Length{3.5, 2}}
	sky       = pen{rgb(0x56b4e9), []vg.Length{12, 4}}
	orange    = pen{rgb(0xe69f00), []vg.Length{5, 2, 1.5, 2, 1.5, 2}}
	pens      = []pen{blue, vermilion, green, purple, sky, orange, black}
)

// mark is where something begins.
type mark struct {
	at   float64
	name string
}

// axis is how values become places.
type axis struct {
	label string
	place func(float64) (float64, bool)         // of a value; false: it has none
	ticks func(least, most float64) []plot.Tick // for places; the last may be beyond most
}

func linear(label string) axis {
	return axis{label, func(v float64) (float64, bool) {
		if v < smallest*smallest { // too small for a tick's text
			return 0, v >= 0
		}
		return v, v <= largest
	}, evenTicks}
}

func logarithmic(label string) axis {
	return axis{label, func(v float64) (float64, bool) { return math.Log10(max(v, smallest)), v > 0 && v <= largest }, decadeTicks}
}

// quantiles gives each further nine the same room.
func quantiles(label string) axis {
	return axis{label, func(q float64) (float64, bool) { return -math.Log10(1 - q), q >= 0 && q < 1 }, nineTicks}
}

func evenTicks(_, most float64) []plot.Tick {
	step := 1.0
	if most > 0 {
		rough := most / 5
		step = math.Pow(10, math.Floor(math.Log10(rough)))
		for _, times := range []float64{1, 2, 2.5, 5, 10} {
			if times*step >= rough*(1-1e-9) {
				step *= times
				break
			}
		}
	}
	ticks := []plot.Tick{{Label: "0"}}
	for n := 1.0; n <= 10 && (n == 1 || (n-1)*step < most*(1-1e-9)); n++ {
		ticks = append(ticks, plot.Tick{Value: n * step, Label: tickLabel(n * step)})
	}
	return ticks
}

// decadeTicks has the whole powers of ten around the values, with steps between them.
func decadeTicks(least, most float64) []plot.Tick {
	first, last := math.Floor(least), math.Ceil(most)
	if first == last {
		last++
	}
	var ticks []plot.Tick
	for decade := first; decade < last; decade++ {
		ticks = append(ticks, plot.Tick{Value: decade, Label: tickLabel(math.Pow(10, decade))})
		for n := 2.0; n < 10; n++ {
			small := plot.Tick{Value: decade + math.Log10(n)}
			if (n == 2 || n == 5) && last-first <= 2 {
				small.Label = tickLabel(n * math.Pow(10, decade))
			}
			ticks = append(ticks, small)
		}
	}
	return append(ticks, plot.Tick{Value: last, Label: tickLabel(math.Pow(10, last))})
}

func nineTicks(_, most float64) []plot.Tick {
	ticks := []plot.Tick{{Label: "0 %"}, {Value: math.Log10(2), Label: "50 %"}, {Value: 1, Label: "90 %"}, {Value: 2, Label: "99 %"}}
	for nines := 3; float64(nines) <= most && nines < 8; nines++ {
		ticks = append(ticks, plot.Tick{Value: float64(nines), Label: "99." + strings.Repeat("9", nines-2) + " %"})
	}
	return ticks
}

// tickLabel writes 0.3 where a sum of tenths is 0.30000000000000004.
func tickLabel(v float64) string {
	short, _ := strconv.ParseFloat(strconv.FormatFloat(v, 'g', 9, 64), 64)
	return humanize.Commaf(short)
}

// seen tells whether a chart has anything to show.
func (c *chart) seen() bool {
	for _, l := range c.lines {
		for _, p := range l.points {
			_, okX := c.x.place(p.X)
			_, okY := c.y.place(p.Y)
			if okX && okY && p.Y > 0 {
				return true
			}
		}
	}
	return false
}

// draw draws a chart as SVG, with words for those who can't see it.
func (c *chart) draw() ([]byte, error) {
	canvas := vgsvg.New(width, height)
	whole := draw.New(canvas)
	whole.SetColor(color.White) // a card of its own: dark pages don't swallow black texts
	whole.Fill(whole.Path())
	whole = draw.Crop(whole, 10, -14, 8, -8)

	legend := c.drawLegend(whole)
	area := draw.Crop(whole, 0, 0, 0, -legend)
	marks := vg.Length(0)
	if len(c.marks) > 1 {
		marks = smallSize + 6
	}
	area = draw.Crop(area, 0, 0, 0, -marks-6)
	p := c.plot()
	p.Draw(area)
	c.drawMarks(p, p.DataCanvas(area))

	var b bytes.Buffer
	if _, err := canvas.WriteTo(&b); err != nil {
		return nil, fmt.Errorf("chart %s: %w", c.file, err)
	}
	return c.finish(b.String()), nil
}

func (c *chart) plot() *plot.Plot {
	p := plot.New()
	p.BackgroundColor = nil
	var placed []plot.Plotter
	least, most := [2]float64{math.Inf(1), math.Inf(1)}, [2]float64{math.Inf(-1), math.Inf(-1)}
	for _, l := range c.lines {
		for _, row := range c.rows(l) {
			for _, xy := range row {
				least[0], most[0] = min(least[0], xy.X), max(most[0], xy.X)
				least[1], most[1] = min(least[1], xy.Y), max(most[1], xy.Y)
			}
			placed = append(placed, l.plotter(row))
		}
	}
	style(&p.X, c.x, c.x.ticks(least[0], most[0]))
	style(&p.Y, c.y, c.y.ticks(least[1], most[1]))
	p.X.Min, p.X.Max = min(p.X.Min, least[0]), most[0] // up to the last point; upwards there's room for the last tick
	if p.X.Max <= p.X.Min {
		p.X.Max = p.X.Min + 1
	}
	if slices.ContainsFunc(c.lines, func(l line) bool { return l.glyph != nil }) {
		p.X.Max += (p.X.Max - p.X.Min) / 25 // dots are whole at the end too
	}
	x, y := p.X, p.Y
	grid := plotter.NewGrid()
	grid.Vertical.Width = 0
	grid.Horizontal.Color, grid.Horizontal.Width = rgb(0xd5d5d5), 0.5
	p.Add(grid)
	p.Add(placed...)
	p.X, p.Y = x, y // adding widens them
	return p
}

func style(a *plot.Axis, of axis, ticks []plot.Tick) {
	a.Label.Text = of.label
	a.Label.TextStyle.Font = sans(textSize)
	a.Label.Padding = 4
	a.Tick.Label.Font = sans(smallSize)
	a.Tick.Marker = plot.ConstantTicks(ticks)
	a.Tick.Length = 5
	a.Padding = 0
	a.Min, a.Max = ticks[0].Value, ticks[len(ticks)-1].Value
}

func sans(size vg.Length) font.Font {
	return font.Font{Typeface: "Liberation", Variant: "Sans", Size: size}
}

// rows are the places of a line's points, broken where a point has none.
func (c *chart) rows(l line) []plotter.XYs {
	var rows []plotter.XYs
	broken := true
	for _, p := range l.points {
		x, okX := c.x.place(p.X)
		y, okY := c.y.place(p.Y)
		if !okX || !okY {
			broken = true
			continue
		}
		if broken {
			rows = append(rows, nil)
			broken = false
		}
		rows[len(rows)-1] = append(rows[len(rows)-1], plotter.XY{X: x, Y: y})
	}
	return rows
}

func (l line) plotter(row plotter.XYs) plot.Plotter {
	if l.glyph != nil || len(row) == 1 {
		return &plotter.Scatter{XYs: row, GlyphStyle: l.dot()}
	}
	return &plotter.Line{XYs: row, LineStyle: l.stroke()}
}

func (l line) stroke() draw.LineStyle {
	return draw.LineStyle{Color: l.pen.color, Width: 2, Dashes: l.pen.dashes}
}

func (l line) dot() draw.GlyphStyle {
	shape := l.glyph
	if shape == nil {
		shape = draw.CircleGlyph{}
	}
	return draw.GlyphStyle{Color: l.pen.color, Radius: 3.5, Shape: shape}
}

// drawLegend draws the names of the lines above them, side by side, and returns how much room they took.
func (c *chart) drawLegend(area draw.Canvas) vg.Length {
	const sample, gap, lineHeight = 30, 5, textSize + 6
	words := text.Style{Color: color.Black, Font: sans(textSize), Handler: plot.DefaultTextHandler}
	x, y := area.Min.X, area.Max.Y-lineHeight
	for _, l := range c.lines {
		room := sample + gap + words.Width(l.name) + 16
		if x > area.Min.X && x+room > area.Max.X {
			x, y = area.Min.X, y-lineHeight
		}
		middle := y + textSize/2 - 1
		if l.glyph != nil {
			area.DrawGlyphNoClip(l.dot(), vg.Point{X: x + sample/2, Y: middle})
		} else {
			area.StrokeLine2(l.stroke(), x, middle, x+sample, middle)
		}
		area.FillText(words, vg.Point{X: x + sample + gap, Y: y + 1}, l.name)
		x += room
	}
	return area.Max.Y - y
}

// drawMarks draws where things begin, with their names above as far as there is room.
func (c *chart) drawMarks(p *plot.Plot, area draw.Canvas) {
	if len(c.marks) < 2 {
		return
	}
	words := text.Style{Color: rgb(0x444444), Font: sans(smallSize), Handler: plot.DefaultTextHandler}
	for i, m := range c.marks {
		if m.at < p.X.Min || m.at > p.X.Max {
			continue
		}
		x, end := area.X(p.X.Norm(m.at)), area.Max.X
		if i+1 < len(c.marks) && c.marks[i+1].at < p.X.Max {
			end = area.X(p.X.Norm(c.marks[i+1].at))
		}
		area.StrokeLine2(draw.LineStyle{Color: rgb(0x999999), Width: 0.75}, x, area.Min.Y, x, area.Max.Y+smallSize+3)
		name := []rune(m.name)
		for len(name) > 0 && words.Width(string(name))+6 > end-x {
			name = name[:len(name)-1]
		}
		if len(name) == len([]rune(m.name)) || len(name) > 3 {
			area.FillText(words, vg.Point{X: x + 3, Y: area.Max.Y + 4}, string(name))
		}
	}
}

// finish gives a picture a head with a title and a description, and fonts that its viewer has.
func (c *chart) finish(svg string) []byte {
	_, svg, _ = strings.Cut(svg, "<svg")
	_, svg, _ = strings.Cut(svg, ">")
	svg = textElement.ReplaceAllStringFunc(svg, fit)
	id := strings.TrimSuffix(c.file, ".svg")
	head := fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" width="%g" height="%g" viewBox="0 0 %g %g" role="img" aria-labelledby="%s-title %s-about">`+
		"\n<title id=\"%s-title\">%s</title>\n<desc id=\"%s-about\">%s</desc>",
		width, height, width, height, id, id, id, html.EscapeString(c.title), id, html.EscapeString(c.words()))
	return []byte(head + svg)
}

// textElement is a text as vgsvg writes it: its attributes, its size, what it says.
var textElement = regexp.MustCompile(`<text ([^>]*font-size:([0-9.]+)px[^>]*)>([^<]*)</text>`)

// fit has a text take the room that it was given, whatever font the viewer has: the first four are as wide as the one reckoned with.
func fit(element string) string {
	of := textElement.FindStringSubmatch(element)
	size, _ := strconv.ParseFloat(of[2], 64)
	room := text.Style{Font: sans(vg.Length(size)), Handler: plot.DefaultTextHandler}.Width(html.UnescapeString(of[3]))
	look := strings.Replace(of[1], "font-family:Liberation Sans;", "font-family:'Liberation Sans',Arimo,Arial,Helvetica,sans-serif;", 1)
	return fmt.Sprintf(`<text textLength="%.5g" lengthAdjust="spacingAndGlyphs" %s>%s</text>`, room, look, of[3])
}

// words says what a chart shows.
func (c *chart) words() string {
	var said []string
	for _, l := range c.lines {
		top := 0.0
		for _, p := range l.points {
			if _, ok := c.y.place(p.Y); ok {
				top = max(top, p.Y)
			}
		}
		said = append(said, fmt.Sprintf("%s: at most %s", l.name, number(top)))
	}
	return c.look + " " + strings.Join(said, "; ") + " (" + c.y.label + ")."
}
